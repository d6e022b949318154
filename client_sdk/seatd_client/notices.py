"""What the program hears of its seat: callbacks, called in order and apart from the renewals.

Decides which change calls which callback, and that none can hurt the seat: one that is slow delays
only later callbacks, one that raises is logged.  Nothing here changes a seat.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from seatd_client.errors import SeatError
from seatd_client.lease import Lease
from seatd_client.line import Standing
from seatd_client.states import State

LOG = logging.getLogger("seatd_client")


@dataclass(frozen=True)
class Callbacks:
    """Called with each change of a seat's state; plain functions or coroutine functions.

    `on_held()` once the seat is held, and after each renewal.  `on_renewing()` when one is sent.
    `on_at_risk(error)` when it failed and is being tried again.  `on_lost(reason)` when the seat is
    lost: `deadline`, or what the server said, as in `LeaseGone.reason`.  `on_waiting(standing)` while
    waiting in line, whenever the server has answered; `on_held` ends it.
    """

    on_held: Callable[[], Any] | None = None
    on_renewing: Callable[[], Any] | None = None
    on_at_risk: Callable[[SeatError | None], Any] | None = None
    on_lost: Callable[[str], Any] | None = None
    on_waiting: Callable[[Standing], Any] | None = None

    def of(self, lease: Lease) -> Callable[[], Any] | None:
        """Return the call to make for the state that `lease` has just come to, if any."""
        reason, error = lease.reason or "unknown", lease.error
        standing = lease.standing
        if standing is not None and self.on_waiting is not None:
            on_waiting = self.on_waiting
            return lambda: on_waiting(standing)
        if lease.state is State.HELD:
            return self.on_held
        if lease.state is State.RENEWING:
            return self.on_renewing
        if lease.state is State.AT_RISK and self.on_at_risk is not None:
            on_at_risk = self.on_at_risk
            return lambda: on_at_risk(error)
        if lease.state is State.LOST and self.on_lost is not None:
            on_lost = self.on_lost
            return lambda: on_lost(reason)
        return None


class Notices:
    """Makes a seat's calls one after the other, in a task of its own."""

    def __init__(self, callbacks: Callbacks) -> None:
        """Call `callbacks`; made inside the event loop that they are to run in."""
        self._callbacks = callbacks
        self._told: tuple[State, Standing | None] | None = None
        self._queue: asyncio.Queue[Callable[[], Any] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def publish(self, lease: Lease) -> None:
        """Note the state of `lease`; a new one is told, and a new standing in line."""
        come_to = (lease.state, lease.standing)
        if self._told is not None and come_to[0] is self._told[0] and come_to[1] is self._told[1]:
            return
        self._told = come_to
        call = self._callbacks.of(lease)
        if call is None or self._closing:
            return
        self._queue.put_nowait(call)
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def close(self, within_ms: int) -> None:
        """Let the calls already due finish, for `within_ms` at most."""
        if self._task is None:
            return
        self._queue.put_nowait(None)
        try:
            await asyncio.wait({self._task}, timeout=within_ms / 1000)
        finally:
            self._closing = True
            self._task.cancel()

    async def _run(self) -> None:
        while (call := await self._queue.get()) is not None:
            await self._make(call)

    async def _make(self, call: Callable[[], Any]) -> None:
        try:
            result = call()
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError:
            if self._closing:
                raise
            LOG.warning("a callback of the seat was cancelled")
        except Exception:
            LOG.exception("a callback of the seat failed")
