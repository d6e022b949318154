"""The channels of this process: which socket holds which lease, and what is pushed to whom, when.

Decides whom news reaches, how a herd is spread, when an idle socket is asked whether it is there and how a drain goes.
It knows sockets only as `Socket`; what a frame means is not decided here.  Everything kept is bounded, and
losing any of it loses no seat: whoever is not told learns at its next renewal.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from seatd.model import Refusal
from seatd.seats.model import Caller
from seatd.seats.news import LeaseEnded, News
from seatd.telemetry import CHANNELS, PUSHES, log
from seatd.web import frames, websocket

SOCKETS_MAX: Final = 20_000
LEASES_MAX: Final = 1_000_000
LOOK_EVERY_S: Final = 1.0
PING_AFTER_S: Final = 25.0
"""How long a socket may be silent before it is asked; after as long again it is taken for gone."""
RENEWALS_A_S: Final = 4_000
"""How many renewals a second a process asks for at most when it asks everybody at once."""
SPREAD_MS: Final = (1_000, 20_000)
DRAINS_A_S: Final = 2_000
DRAIN_MS: Final = (200, 5_000)
GONE_AFTER_S: Final = 1.0
"""How long a socket that was told to go has beyond the time it was given."""
RETRY_MS: Final = 2_000

Admit = Callable[[Caller], Awaitable[None]]


class Socket(Protocol):
    """One channel, as far as this module needs it."""

    caller: Caller
    heard_s: float
    leases: dict[str, None]

    def send(self, message: bytes) -> None:
        """Send a whole message; never waits."""

    def end(self, code: int, why: str) -> None:
        """Close soon, saying why; what is in flight is answered first where it can be."""

    def abort(self) -> None:
        """Drop the connection."""


class Channels:
    """All sockets of this process, by lease and by tenant."""

    def __init__(self, admit: Admit, epochs: Callable[[], tuple[int, ...]]) -> None:
        """`admit` checks a key; `epochs` tells in which epoch each partition answered last."""
        self.admit = admit
        self._epochs = epochs
        self._tenants: dict[str, dict[Socket, None]] = {}
        self._holders: dict[str, Socket] = {}
        self._count = 0
        self._checking: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()
        self.draining = False

    def __len__(self) -> int:
        """Count the sockets."""
        return self._count

    # -- who is here ------------------------------------------------------------------------------

    def enter(self, socket: Socket) -> None:
        """Take a socket in."""
        self._tenants.setdefault(socket.caller.tenant, {})[socket] = None
        self._count += 1
        CHANNELS.set(self._count)

    def refuse_more(self) -> None:
        """Raise `Refusal` where no further socket is taken in."""
        if self.draining or self._count >= SOCKETS_MAX:
            raise Refusal("busy", "No more channels are taken here now.", retry_after_ms=RETRY_MS)

    def leave(self, socket: Socket) -> None:
        """Forget a socket; its leases stand as they are."""
        here = self._tenants.get(socket.caller.tenant, {})
        if here.pop(socket, 0) is None:
            self._count -= 1
        if not here:
            self._tenants.pop(socket.caller.tenant, None)
        for lease in socket.leases:
            if self._holders.get(lease) is socket:
                del self._holders[lease]
        socket.leases.clear()
        CHANNELS.set(self._count)
        self._left.set()

    def hold(self, socket: Socket, lease: str) -> None:
        """Note that a lease was acquired or renewed over this socket, and no longer over another."""
        before = self._holders.get(lease)
        if before is socket:
            return
        if before is not None:
            before.leases.pop(lease, None)
        elif len(self._holders) >= LEASES_MAX:
            return
        self._holders[lease] = socket
        socket.leases[lease] = None

    def let_go(self, socket: Socket, lease: str) -> None:
        """Note that a lease is over."""
        if self._holders.get(lease) is socket:
            del self._holders[lease]
            socket.leases.pop(lease, None)

    # -- what they are told -----------------------------------------------------------------------

    def tell(self, news: News) -> None:
        """Pass on what the store told."""
        if isinstance(news, LeaseEnded):
            self._revoked(news)
            return
        here = self._tenants.get(news.tenant)
        if not here:
            return
        if news.ended:
            self._renew_soon(list(here))
        by_key = defaultdict(list)
        for socket in here:
            by_key[socket.caller].append(socket)
        for caller, sockets in by_key.items():
            self._check_soon(caller, sockets)

    def _revoked(self, news: LeaseEnded) -> None:
        socket = self._holders.get(news.lease)
        if socket is None or socket.caller.tenant != news.tenant:
            return
        self.let_go(socket, news.lease)
        self._push([socket], "revoked", lease=news.lease, reason=news.reason)

    def _renew_soon(self, sockets: list[Socket]) -> None:
        """Ask for renewals, spread over as long as so many take."""
        leases = sum(len(socket.leases) for socket in sockets)
        self._push(sockets, "renew", within_ms=_spread_ms(leases, RENEWALS_A_S, SPREAD_MS))

    def _check_soon(self, caller: Caller, sockets: list[Socket]) -> None:
        task = asyncio.create_task(self._check(caller, sockets))
        self._checking.add(task)
        task.add_done_callback(self._checking.discard)

    async def _check(self, caller: Caller, sockets: list[Socket]) -> None:
        """Close the sockets of a key that opens nothing any more."""
        try:
            await self.admit(caller)
        except Refusal as refusal:
            if refusal.status in (401, 403):
                for socket in sockets:
                    socket.end(frames.CLOSE_KEY, refusal.code)

    def _push(self, sockets: list[Socket], kind: str, **fields: object) -> None:
        message = frames.push(kind, **fields)
        for socket in sockets:
            socket.send(message)
        PUSHES.labels(kind).inc(len(sockets))

    def everybody(self) -> list[Socket]:
        """List all sockets."""
        return [socket for here in self._tenants.values() for socket in here]

    # -- what goes on by itself -------------------------------------------------------------------

    async def look_for_ever(self) -> None:
        """Ask silent sockets whether they are there, and all for renewals where an epoch was opened, until cancelled."""
        known = self._epochs()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._ask_the_silent(time.monotonic())
            now = self._epochs()
            if any(before and epoch != before for before, epoch in zip(known, now, strict=True)):
                log.info("renewals asked for", channels=self._count)
                self._renew_soon(self.everybody())
            known = now

    def _ask_the_silent(self, now_s: float) -> None:
        for socket in self.everybody():
            silent_s = now_s - socket.heard_s
            if silent_s >= 2 * PING_AFTER_S:
                socket.abort()
            elif silent_s >= PING_AFTER_S:
                socket.send(websocket.frame(websocket.PING, b""))

    async def drain(self) -> None:
        """Tell every socket to connect elsewhere, spread over a while, then close those that are left."""
        self.draining = True
        if not self._count:
            return
        within_ms = _spread_ms(self._count, DRAINS_A_S, DRAIN_MS)
        log.info("channels drain", channels=self._count, within_ms=within_ms)
        self._push(self.everybody(), "drain", within_ms=within_ms)
        await self._emptied(within_ms / 1000 + GONE_AFTER_S)
        for socket in self.everybody():
            socket.end(frames.CLOSE_DRAINED, "drained")
        await self._emptied(GONE_AFTER_S)
        for socket in self.everybody():
            socket.abort()

    async def _emptied(self, seconds: float) -> None:
        """Wait until nobody is left, so long at most."""
        try:
            async with asyncio.timeout(seconds):
                while self._count:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            return


def _spread_ms(count: int, a_second: int, bounds: tuple[int, int]) -> int:
    return min(max(count * 1000 // a_second, bounds[0]), bounds[1])
