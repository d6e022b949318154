"""Seats for programs without asyncio: `with BlockingSeatClient(url, key).seat(user="ana") as seat:`.

The asyncio seat, run in a daemon thread of its own.  Decides only how threads meet: what a seat does
is decided in `aio` and `lease`.  Callbacks run in a further thread, one after the other, so that one
that blocks (a dialog, say) delays no renewal; a program with a main loop hands them on to it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from seatd_client import aio, wire
from seatd_client.clock import boottime_ms
from seatd_client.errors import ConnectionFailed, SeatError
from seatd_client.lease import Patience
from seatd_client.line import Standing, wait_ms_of
from seatd_client.notices import LOG, Callbacks
from seatd_client.seat import Seat
from seatd_client.states import State
from seatd_client.waiting import Clock

_LOOK_S = 0.5
"""How often a blocking wait looks up, so that Ctrl-C gets through where locks do not let it."""


class BlockingSeatClient:
    """A tenant's client of one seatd, as `aio.SeatClient`; one for the whole program will do.

    Raises `ValueError` for a URL or key that cannot be one.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        client: str | None = None,
        patience: Patience | None = None,
        clock: Clock = boottime_ms,
    ) -> None:
        """Remember whom to ask, and how."""
        self._url = url
        self._key = key
        self._client = client
        self._patience = patience
        self._clock = clock
        self._connect()  # a wrong URL or key is told here, not in the thread

    def seat(
        self,
        *,
        user: str,
        addons: Sequence[str] | None = None,
        takeover: bool = False,
        proof: bool = False,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        wait_s: float = 0,
        callbacks: Callbacks | None = None,
    ) -> BlockingSeat:
        """Make a seat for `user`, to be taken with `with`; the options are those of `aio.SeatClient.seat`."""
        wait_ms_of(wait_s)  # what is no time to wait is told here, not in the thread
        calls = _Calls(callbacks) if callbacks else None

        def make() -> Seat:
            return self._connect().seat(
                user=user,
                addons=addons,
                takeover=takeover,
                proof=proof,
                labels=labels,
                request_id=request_id,
                wait_s=wait_s,
                callbacks=calls.handed_on if calls else None,
            )

        return BlockingSeat(make, calls, self._patience or Patience())

    def _connect(self) -> aio.SeatClient:
        return aio.SeatClient(
            self._url, self._key, client=self._client, patience=self._patience, clock=self._clock
        )


class BlockingLost:
    """Tells that a seat is lost; giving a seat back never sets it."""

    def __init__(self) -> None:
        """Start unset."""
        self.event = threading.Event()
        self.seat: Seat | None = None

    def is_set(self) -> bool:
        """Tell whether the seat is lost."""
        return self.event.is_set() or (self.seat is not None and self.seat.lost.is_set())

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the seat is lost, or for `timeout_s` at most; returns whether it is lost."""
        return self.event.wait(timeout_s) or self.is_set()


class BlockingSeat:
    """One seat: taken by `with`, renewed in a thread, given back on the way out.

    Entering raises `NoSeat`, `SeatElsewhere`, `NotNamed` and the other `SeatError`s of an acquire.
    All properties may be read from any thread.
    """

    def __init__(self, make: Callable[[], Seat], calls: _Calls | None, patience: Patience) -> None:
        """Make the seat that `BlockingSeatClient.seat` returns."""
        self._make = make
        self._calls = calls
        self._patience = patience
        self._leaving = False
        self._seat: Seat | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._life: asyncio.Task[None] | None = None
        self._entered = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.lost = BlockingLost()

    @property
    def held(self) -> bool:
        """Tell whether the user may work now."""
        return self._seat is not None and self._seat.held

    @property
    def left_ms(self) -> int:
        """Tell for how many milliseconds the seat is held if no renewal succeeds any more."""
        return self._seat.left_ms if self._seat else 0

    @property
    def state(self) -> State:
        """Tell where the seat stands; `held` is what decides."""
        return self._seat.state if self._seat else State.ACQUIRING

    @property
    def reason(self) -> str | None:
        """Tell why the seat was lost, or None."""
        return self._seat.reason if self._seat else None

    @property
    def error(self) -> SeatError | None:
        """Tell what went wrong last, since the last success."""
        return self._seat.error if self._seat else None

    @property
    def standing(self) -> Standing | None:
        """Tell where the wait for a seat stands; None where nobody waits, or nothing is known yet."""
        return self._seat.standing if self._seat else None

    @property
    def grant(self) -> wire.Grant | None:
        """Tell what the server granted: lease, tariff, add-ons; None before."""
        return self._seat.grant if self._seat else None

    @property
    def proof(self) -> str | None:
        """Give the proof of the seat that was asked for, as of its acquire; None before, or without."""
        return self._seat.proof if self._seat else None

    def addon(self, product: str) -> bool:
        """Ask the server whether the user may use an add-on; raises `SeatError` where it cannot tell."""
        if self._seat is None or self._loop is None or self._loop.is_closed():
            raise ConnectionFailed("the seat is not taken")
        return asyncio.run_coroutine_threadsafe(self._seat.addon(product), self._loop).result()

    def __enter__(self) -> BlockingSeat:  # noqa: PYI034 - typing.Self is younger than our oldest Python
        if self._thread is not None:
            raise RuntimeError("a seat is entered once; make another with BlockingSeatClient.seat")
        self._thread = threading.Thread(target=self._run, name="seatd-seat", daemon=True)
        self._thread.start()
        try:
            while not self._entered.wait(_LOOK_S):
                pass
        except BaseException:
            self._leave()
            raise
        if self._failure is not None:
            self._leave()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the thread that entered
            self._failure = error
        finally:
            self._entered.set()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._life = asyncio.ensure_future(self._hold())
        if self._leaving:  # whoever left before there was a life to cancel
            self._life.cancel()
        await self._life

    async def _hold(self) -> None:
        self._seat = self._make()
        self.lost.seat = self._seat
        async with self._seat as seat:
            self._entered.set()
            await seat.lost
            self.lost.event.set()
            await asyncio.Event().wait()  # until cancelled: the seat is given back by whoever left it

    def _leave(self) -> None:
        """End the seat's life and wait for it, as long as its own waits may take together."""
        self._leaving = True
        if self._loop is not None and self._life is not None:
            try:
                self._loop.call_soon_threadsafe(self._life.cancel)
            except RuntimeError:
                LOG.debug("the seat's loop has ended by itself")
        if self._thread is not None:
            self._thread.join(_LOOK_S + 3 * self._patience.release_ms / 1000)
        if self._calls is not None:
            self._calls.close(self._patience.release_ms / 1000)


class _Calls:
    """A thread that makes callbacks, one after the other."""

    def __init__(self, callbacks: Callbacks) -> None:
        self._queue: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="seatd-callbacks", daemon=True)
        self._thread.start()
        self.handed_on = Callbacks(
            on_held=self._hand_on(callbacks.on_held),
            on_renewing=self._hand_on(callbacks.on_renewing),
            on_at_risk=self._hand_on(callbacks.on_at_risk),
            on_lost=self._hand_on(callbacks.on_lost),
            on_waiting=self._hand_on(callbacks.on_waiting),
        )

    def close(self, within_s: float) -> None:
        """Let the calls already due finish, for `within_s` at most."""
        self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(within_s)

    def _hand_on(self, callback: Callable[..., Any] | None) -> Callable[..., None] | None:
        if callback is None:
            return None
        return lambda *told: self._queue.put(lambda: callback(*told))

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            self._call(call)

    def _call(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001 - whatever it was, the next call is due
            LOG.exception("a callback of the seat failed")
