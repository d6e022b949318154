"""One channel: a WebSocket over which leases are acquired, renewed and released, many frames under way at once.

Decides how much a channel may have under way, and when it is closed for what it said.  Answers come as they are
ready, told apart by their id.  A socket that closes gives nothing back; who merely waited in line has left it.
What a frame is made of is told by `frames`, how it is read by `stream`, whom pushes reach by `channels`.
"""

import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final

from aiohttp import web

from seatd.model import Refusal, invalid
from seatd.seats.model import Caller, Lease
from seatd.seats.service import Seats
from seatd.telemetry import count_answer, log
from seatd.web import frames
from seatd.web.calls import INTERNAL, Calls
from seatd.web.channels import Channels
from seatd.web.client import (
    KEY_USED,
    KEYS,
    SEATS,
    caller_of,
    granted,
    renewed_body,
    wanted_of,
    with_newest_keys,
)
from seatd.web.frames import AcquireFrame, LeaveFrame, MalformedFrameError, ReleaseFrame, RenewFrame
from seatd.web.listener import add_routes
from seatd.web.problems import problem
from seatd.web.stream import Stream
from seatd.web.websocket import accepted, handshake

CHANNELS: Final = web.AppKey("channels", Channels)

UNDER_WAY_MAX: Final = 1_024
"""Leases under way on one socket; it is read from again when some were answered.  Those who wait in line do not count."""
WAITING_MAX: Final = 256
"""Acquires that wait in line on one socket."""
RATE_A_S: Final = 50_000
RATE_WINDOW_S: Final = 0.1
BUSY_PAUSE_S: Final = (0.05, 1.0)
"""How long a socket is not read from after it was told to come later: at first, and at most if it goes on asking."""


class Channel(Stream):
    """One channel: takes frames, answers them."""

    def __init__(self, app: web.Application, caller: Caller, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self.caller = caller
        self.leases: dict[str, None] = {}
        self._app = app
        self._seats: Seats = app[SEATS]
        self._channels = app[CHANNELS]
        self._calls = Calls(self._seats, app[KEYS], caller)
        self._under_way = 0
        self._waiting: dict[int | str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._window = (0.0, 0)
        self._quiet_until_s = 0.0
        self._quiet_s = BUSY_PAUSE_S[0]
        self._channels.enter(self)

    # -- reading ----------------------------------------------------------------------------------

    def left(self) -> None:
        """Leave the line, where somebody waits in it over this channel."""
        self._channels.leave(self)
        for task in [*self._waiting.values()]:
            task.cancel()

    def take(self, raw: bytes) -> None:
        """Take a frame."""
        try:
            frame = frames.decode(raw)
        except MalformedFrameError as error:
            if error.frame_id is None:
                self.end(frames.CLOSE_MALFORMED, error.refusal.detail)
            else:
                self._refuse("frame", error.frame_id, error.refusal, time.perf_counter())
            return
        if isinstance(frame, RenewFrame):
            self._renew(frame)
        elif isinstance(frame, ReleaseFrame):
            self._release(frame)
        elif isinstance(frame, LeaveFrame):
            self._leave(frame)
        else:
            self._acquire(frame)

    def crowded(self) -> bool:
        """Tell whether too much is under way, too much came, or it was told to come later."""
        since_s, taken = self._window
        if self.heard_s - since_s >= RATE_WINDOW_S:
            self._window = (self.heard_s, 0)
        elif taken > RATE_A_S * RATE_WINDOW_S:
            return True
        return self._under_way >= UNDER_WAY_MAX or self.heard_s < self._quiet_until_s

    # -- answering --------------------------------------------------------------------------------

    def _answer(self, op: str, frame_id: int | str, ok: Any, began_s: float) -> None:
        self.send(frames.answer(frame_id, ok))
        count_answer(op, "ok", began_s)
        self._quiet_s = BUSY_PAUSE_S[0]

    def _refuse(self, op: str, frame_id: int | str, refusal: Refusal, began_s: float) -> None:
        self.send(frames.refusal(frame_id, refusal))
        count_answer(op, refusal.code, began_s)
        self._check_key(refusal.code)
        if refusal.code == "busy":
            self._quieten()

    def _quieten(self) -> None:
        """Read no more for a while: who is told to come later and goes on asking costs as much as who is served."""
        now_s = time.monotonic()
        if now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + self._quiet_s
            self._quiet_s = min(2 * self._quiet_s, BUSY_PAUSE_S[1])

    def _check_key(self, code: str) -> None:
        if code in ("unauthorized", "forbidden"):
            self.end(frames.CLOSE_KEY, code)

    def _begin(self, doing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _count(self, leases: int) -> None:
        self._under_way += leases
        since_s, taken = self._window
        self._window = (since_s, taken + leases)

    # -- renew ------------------------------------------------------------------------------------

    def _renew(self, frame: RenewFrame) -> None:
        began_s = time.perf_counter()
        if frame.leases is not None:
            self._renew_many(frame.id, frame.leases, began_s)
        elif frame.lease is not None and frame.receipt is not None:
            self._count(1)
            self._calls.renew(
                frame.lease, frame.receipt, partial(self._renewed, frame.id, frame.lease, began_s)
            )

    def _renewed(self, frame_id: int | str, lease: str, began_s: float, renewed: Lease | Refusal) -> None:
        self._under_way -= 1
        if isinstance(renewed, Refusal):
            self._lost(lease, renewed)
            self._refuse("renew", frame_id, renewed, began_s)
            return
        self._used()
        self._channels.hold(self, lease)
        self._answer("renew", frame_id, renewed_body(renewed), began_s)

    def _renew_many(self, frame_id: int | str, leases: list[tuple[str, str]], began_s: float) -> None:
        items: list[Any] = [None] * len(leases)
        left = len(leases)
        self._count(left)
        if not left:
            self.send(frames.answer(frame_id, items))

        def done(at: int, renewed: Lease | Refusal) -> None:
            nonlocal left
            items[at] = self._item(leases[at][0], renewed, began_s)
            left -= 1
            self._under_way -= 1
            if not left:
                self.send(frames.answer(frame_id, items))
                for item in items:
                    self._check_key(item.get("error", {}).get("code", ""))

        for at, (lease, receipt) in enumerate(leases):
            self._calls.renew(lease, receipt, partial(done, at))

    def _item(self, lease: str, renewed: Lease | Refusal, began_s: float) -> dict[str, Any]:
        """Lay out what became of one lease of a list."""
        if isinstance(renewed, Refusal):
            self._lost(lease, renewed)
            count_answer("renew", renewed.code, began_s)
            return {"error": problem(renewed)}
        self._used()
        self._channels.hold(self, lease)
        count_answer("renew", "ok", began_s)
        return renewed_body(renewed)

    def _lost(self, lease: str, refusal: Refusal) -> None:
        if refusal.code == "lease_gone":
            self._channels.let_go(self, lease)

    # -- acquire and release ----------------------------------------------------------------------

    def _acquire(self, frame: AcquireFrame) -> None:
        began_s = time.perf_counter()
        if not frame.wait_ms:
            self._acquire_now(frame, began_s)
        elif frame.id in self._waiting:
            self._refuse("acquire", frame.id, invalid("id", "another acquire waits under it"), began_s)
        elif len(self._waiting) >= WAITING_MAX:
            refusal = Refusal("busy", "Too many wait in line on this channel.", retry_after_ms=1_000)
            self._refuse("acquire", frame.id, refusal, began_s)
        else:
            task = self._begin(self._awaited(frame, began_s))
            self._waiting[frame.id] = task
            task.add_done_callback(lambda _: self._waiting.pop(frame.id, None))

    def _acquire_now(self, frame: AcquireFrame, began_s: float) -> None:
        if busy := self._seats.crowded(self.caller.tenant):
            self._refuse("acquire", frame.id, busy, began_s)
            return
        self._count(1)
        if frame.proof:
            self._begin(self._awaited(frame, began_s)).add_done_callback(self._one_less)
        else:
            self._calls.acquire(wanted_of(frame), partial(self._acquired, frame.id, began_s))

    def _acquired(self, frame_id: int | str, began_s: float, lease: Lease | Refusal) -> None:
        self._under_way -= 1
        if isinstance(lease, Refusal):
            self._refuse("acquire", frame_id, lease, began_s)
            return
        self._used()
        self._channels.hold(self, lease.lease)
        self._answer("acquire", frame_id, granted(lease), began_s)

    def _leave(self, frame: LeaveFrame) -> None:
        """Let an acquire give up its place; one that was answered already stays as it was answered."""
        waiting = self._waiting.get(frame.of)
        if waiting is not None:
            waiting.cancel()
        self.send(frames.answer(frame.id, {}))

    def _one_less(self, _: object) -> None:
        self._under_way -= 1

    async def _awaited(self, frame: AcquireFrame, began_s: float) -> None:
        seats, caller, wanted, gone = self._seats, self.caller, wanted_of(frame), self._transport.is_closing
        op = "wait" if wanted.wait_ms else "acquire"
        try:
            lease = await with_newest_keys(self._app[KEYS], lambda: seats.acquire(caller, wanted, gone))
        except Refusal as refusal:
            self._refuse(op, frame.id, refusal, began_s)
            return
        except Exception:  # noqa: BLE001 - whatever it was, the caller gets an answer and we the trace
            log.exception("frame failed", op=op)
            self._refuse(op, frame.id, Refusal("internal", INTERNAL), began_s)
            return
        self._used()
        self._channels.hold(self, lease.lease)
        proof = self._app[KEYS].prove(lease) if frame.proof else None
        self._answer(op, frame.id, granted(lease, proof), began_s)

    def _release(self, frame: ReleaseFrame) -> None:
        self._count(1)
        done = partial(self._released, frame.id, frame.lease, time.perf_counter())
        self._calls.release(frame.lease, frame.receipt, done)

    def _released(self, frame_id: int | str, lease: str, began_s: float, released: bool | Refusal) -> None:
        self._under_way -= 1
        if isinstance(released, Refusal):
            self._refuse("release", frame_id, released, began_s)
        else:
            self._channels.let_go(self, lease)
            self._answer("release", frame_id, {}, began_s)

    def _used(self) -> None:
        self._app[KEY_USED](self.caller.key_hash)


class _Upgraded(web.StreamResponse):
    """What a handler returns whose connection has spoken another protocol meanwhile: nothing more is sent."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send no head: the handshake was it."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Send nothing."""


async def _channel(request: web.Request) -> web.StreamResponse:
    caller = caller_of(request)
    channels = request.app[CHANNELS]
    accept = _handshake(request)
    channels.refuse_more()
    await channels.admit(caller)
    channels.refuse_more()  # many may have come meanwhile
    transport = request.transport
    if transport is not None:  # it may have closed meanwhile
        transport.write(handshake(accept, frames.SUBPROTOCOL))
        request.app[KEY_USED](caller.key_hash)
        channel = Channel(request.app, caller, transport)
        protocol: Any = request.protocol
        protocol.keep_alive(val=False)
        protocol.set_parser(channel)
        await channel.over
    return _Upgraded()


def _handshake(request: web.Request) -> bytes:
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    if frames.SUBPROTOCOL not in [each.strip() for each in offered.split(",")]:
        raise invalid("Sec-WebSocket-Protocol", f"must offer {frames.SUBPROTOCOL}")
    accept = accepted(request.headers)
    if accept is None:
        raise invalid("Upgrade", "must be a WebSocket handshake (RFC 6455, version 13)")
    return accept


def add_channel(app: web.Application, channels: Channels) -> None:
    """Mount the channel on the public listener's application."""
    app[CHANNELS] = channels
    add_routes(app, [web.get("/v1/channel", _channel)])
