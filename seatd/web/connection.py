"""A client's connection: answers plain requests itself, and leaves every other to the HTTP library.

Decides when it may: only where a request begins the data that came, nothing is under way on the connection, and where each
request before ended is known beyond doubt.  One request at a time; what comes meanwhile waits, bounded.
"""

import asyncio
import time
from functools import partial
from typing import Any, Final, TypeVar

from aiohttp import web

from seatd.model import Refusal
from seatd.seats.model import Caller, Lease
from seatd.telemetry import count_answer, log
from seatd.web import express
from seatd.web.calls import INTERNAL, Calls
from seatd.web.client import (
    ACQUIRE,
    KEY_USED,
    KEYS,
    RENEW,
    SEATS,
    AcquireBody,
    acquired,
    granted,
    receipt_missing,
    renewed_body,
    wanted_of,
)
from seatd.web.codec import Body, encode
from seatd.web.listener import Connection

T = TypeVar("T")

HELD_MAX: Final = 64 * 1024
FINISH_S: Final = 2.0
QUIET_S: Final = (0.05, 0.4)
"""How long a connection is not served after it was told to come later, at first, and at most where it goes on asking: less
than anybody is asked to stay away."""


class ClientConnection(Connection):
    """A connection of the public listener."""

    __slots__ = (
        "_app",
        "_busy",
        "_calls",
        "_held",
        "_left",
        "_quiet_s",
        "_quiet_until_s",
        "_reader",
        "_rest",
        "_work",
    )

    def __init__(self, app: web.Application, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._app = app
        self._reader = express.Reader()
        self._calls: Calls | None = None
        self._busy = False
        self._held: list[bytes] = []
        self._left = False
        self._rest = 0
        self._quiet_s = QUIET_S[0]
        self._quiet_until_s = 0.0
        self._work: asyncio.Task[None] | None = None

    # -- what comes -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Answer a plain request; hand on all else."""
        if self._left or not data:  # the library has nothing come when it goes on after a pause of its own
            super().data_received(data)
        elif self._busy:
            self._hold(data)
        elif self._force_close or self._close:
            return
        elif self._rest:  # of a body that the library reads
            self._rest -= len(data)
            self._left = self._rest < 0
            super().data_received(data)
        elif not self._quiet(data):
            self._begin(data)

    def _quiet(self, data: bytes) -> bool:
        """Keep what comes too soon from one that was told to come later; tell whether it does."""
        until_s = self._quiet_until_s
        if not until_s:
            return False
        self._quiet_until_s = 0.0
        if until_s <= self._loop.time():
            return False
        self._busy = True
        self._hold(data)
        self._loop.call_at(until_s, self._go_on)
        return True

    def _begin(self, data: bytes) -> None:
        extent = self._reader.read(data)
        if extent is None or extent.length < len(data):
            self._left = True
        else:
            self._rest = extent.length - len(data)
            if extent.request is not None and self._idle:
                self._serve(extent.request)
                return
        super().data_received(data)

    @property
    def _idle(self) -> bool:
        """Whether the library waits for a request: it has answered all it was handed."""
        waiter = self._waiter
        return waiter is not None and not waiter.done()

    def _hold(self, data: bytes) -> None:
        """Keep what came before the answer was written; whoever sends much so does without answers."""
        self._held.append(data)
        if sum(map(len, self._held)) > HELD_MAX:
            self.force_close()

    # -- plain requests ---------------------------------------------------------------------------

    def _serve(self, request: express.Request) -> None:
        began_s = time.perf_counter()
        self._busy = True
        head = request.head
        if head.caller is None:
            self._refuse(request.op, head, began_s, head.refusal or Refusal("unauthorized"))
        elif request.op == "renew":
            self._renew(request, head.caller, began_s)
        elif request.op == "release":
            self._release(request, head.caller, began_s)
        elif busy := self._app[SEATS].crowded(head.caller.tenant):
            self._refuse("acquire", head, began_s, busy)  # before it has cost anything
        else:
            self._acquire(request, head.caller, began_s)

    def _calls_of(self, caller: Caller) -> Calls:
        calls = self._calls
        if calls is None or calls.caller is not caller:
            calls = self._calls = Calls(self._app[SEATS], self._app[KEYS], caller)
        return calls

    def _decode(self, kind: Body[T], request: express.Request, began_s: float) -> T | None:
        """Decode a request's body; None where that was refused, and answered."""
        try:
            return kind.decode(request.body, msgpack=request.head.content_type == b"application/msgpack")
        except Refusal as refusal:
            self._refuse(request.op, request.head, began_s, refusal)
            return None

    def _renew(self, request: express.Request, caller: Caller, began_s: float) -> None:
        body = self._decode(RENEW, request, began_s)
        if body is not None:
            done = partial(self._renewed, request.head, began_s)
            self._calls_of(caller).renew(request.lease, body.receipt, done)

    def _renewed(self, head: express.Head, began_s: float, renewed: Lease | Refusal) -> None:
        if isinstance(renewed, Refusal):
            self._refuse("renew", head, began_s, renewed)
            return
        self._used(head)
        self._answer("renew", 200, renewed_body(renewed), head, began_s)

    def _release(self, request: express.Request, caller: Caller, began_s: float) -> None:
        head = request.head
        if head.receipt is None:
            self._refuse("release", head, began_s, receipt_missing())
            return
        done = partial(self._released, head, began_s)
        self._calls_of(caller).release(request.lease, head.receipt, done)

    def _released(self, head: express.Head, began_s: float, released: bool | Refusal) -> None:
        if isinstance(released, Refusal):
            self._refuse("release", head, began_s, released)
        else:
            self._answer("release", 204, None, head, began_s)

    def _acquire(self, request: express.Request, caller: Caller, began_s: float) -> None:
        head, body = request.head, self._decode(ACQUIRE, request, began_s)
        if body is None:
            return
        if body.wait_ms or body.proof:
            self._work = self._loop.create_task(self._worked(body, head, caller, began_s))
        else:
            self._calls_of(caller).acquire(wanted_of(body), partial(self._acquired, head, began_s))

    def _acquired(self, head: express.Head, began_s: float, lease: Lease | Refusal) -> None:
        if isinstance(lease, Refusal):
            self._refuse("acquire", head, began_s, lease)
            return
        self._used(head)
        self._answer("acquire", 201 if lease.created else 200, granted(lease), head, began_s)

    def _used(self, head: express.Head) -> None:
        if head.caller is not None:
            self._app[KEY_USED](head.caller.key_hash)

    async def _worked(self, body: AcquireBody, head: express.Head, caller: Caller, began_s: float) -> None:
        op = "wait" if body.wait_ms else "acquire"
        try:
            status, said = await acquired(self._app, caller, body, self._gone)
        except Refusal as refusal:
            self._refuse(op, head, began_s, refusal)
        except Exception:  # noqa: BLE001 - whatever it was, the caller gets an answer and we the trace
            log.exception("request failed", op=op)
            self._refuse(op, head, began_s, Refusal("internal", INTERNAL))
        else:
            self._answer(op, status, said, head, began_s)

    def _gone(self) -> bool:
        return self.transport is None or self.transport.is_closing()

    # -- what goes --------------------------------------------------------------------------------

    def _answer(self, op: str, status: int, said: Any, head: express.Head, began_s: float) -> None:
        body = b"" if said is None else encode(said, msgpack=head.msgpack)
        self._write(express.answer(status, body, msgpack=head.msgpack))
        count_answer(op, "ok", began_s)

    def _refuse(self, op: str, head: express.Head, began_s: float, refusal: Refusal) -> None:
        self._write(express.refused(refusal, msgpack=head.msgpack), quiet=refusal.code == "busy")
        count_answer(op, refusal.code, began_s)

    def _write(self, raw: bytes, *, quiet: bool = False) -> None:
        """Write an answer, and go on with what came meanwhile; `quiet`: not at once, and ever later where that goes on."""
        self._work = None
        transport = self.transport
        if transport is None:
            self._busy = False
            return
        transport.write(raw)
        # The library closes a connection that it has not heard of for so long.
        now_s = self._loop.time()
        self._next_keepalive_close_time = now_s + self._keepalive_timeout
        if quiet:
            self._quiet_until_s = now_s + self._quiet_s
            self._quiet_s = min(self._quiet_s * 2, QUIET_S[1])
        elif self._quiet_s > QUIET_S[0]:
            self._quiet_s /= 2
        self._go_on()

    def _go_on(self) -> None:
        self._busy = False
        if self._held:
            held, self._held = b"".join(self._held), []
            self.data_received(held)

    # -- the end ----------------------------------------------------------------------------------

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - the library's signature
        """Let the request under way be answered, then close."""
        deadline = self._loop.time() + FINISH_S
        while self._busy and not self._gone() and self._loop.time() < deadline:  # noqa: ASYNC110 - once a connection
            await asyncio.sleep(0.01)
        super().close()
        await super().shutdown(timeout)

    def close(self) -> None:
        """Take no further request; the one under way is answered."""
        if not self._busy:
            super().close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave the line, if the caller waited in one; all else that is under way goes on to its end."""
        super().connection_lost(exc)
        self._busy = False
