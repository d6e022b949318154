"""Acquires, renewals and releases without a task each: begun at once, settled when the batch comes back.

What the scripts answered is passed on from the callback; all that needs another step (a policy to be brought, an
epoch to be opened, newer keys to be looked for) takes the way that every other caller takes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from seatd.flows.keyring import Keys
from seatd.model import Refusal
from seatd.seats.model import Acquire, Caller, Lease
from seatd.seats.service import Seats
from seatd.telemetry import log
from seatd.web.client import NOT_OURS, with_newest_keys

T = TypeVar("T")
Done = Callable[[T | Refusal], None]
"""Told what became of one call, once."""

INTERNAL: Final = "Something went wrong on our side."


class Calls:
    """Begins calls for one caller; `done` may be called before a method returns."""

    def __init__(self, seats: Seats, keys: Keys, caller: Caller) -> None:
        self._seats = seats
        self._keys = keys
        self.caller = caller
        self._long: set[asyncio.Task[None]] = set()

    def acquire(self, wanted: Acquire, done: Done[Lease]) -> None:
        """Take or extend a seat, without a wait in line."""
        again = partial(self._seats.acquire, self.caller, wanted)
        try:
            self._seats.begin_acquire(self.caller, wanted, partial(self._told, again, done))
        except Refusal as refusal:
            self._refused(again, done, refusal)

    def renew(self, lease: str, receipt: str, done: Done[Lease]) -> None:
        """Renew a lease by its receipt."""
        again = partial(self._seats.renew, self.caller, lease, receipt)
        try:
            self._seats.begin_renew(self.caller, lease, receipt, partial(self._told, again, done))
        except Refusal as refusal:
            self._refused(again, done, refusal)

    def release(self, lease: str, receipt: str, done: Done[bool]) -> None:
        """Give a seat back."""
        again = partial(self._seats.release, self.caller, lease, receipt)
        try:
            self._seats.begin_release(self.caller, lease, receipt, partial(self._told, again, done))
        except Refusal as refusal:
            self._refused(again, done, refusal)

    def _told(self, again: Callable[[], Awaitable[T]], done: Done[T], outcome: T | Refusal | None) -> None:
        if outcome is None:
            self._the_long_way(again, done)
        else:
            done(outcome)

    def _refused(self, again: Callable[[], Awaitable[T]], done: Done[T], refusal: Refusal) -> None:
        if refusal.code in NOT_OURS:  # by the keys that are known here
            self._the_long_way(again, done)
        else:
            done(refusal)

    def _the_long_way(self, again: Callable[[], Awaitable[Any]], done: Done[Any]) -> None:
        task = asyncio.create_task(self._again(again, done))
        self._long.add(task)
        task.add_done_callback(self._long.discard)

    async def _again(self, again: Callable[[], Awaitable[Any]], done: Done[Any]) -> None:
        try:
            done(await with_newest_keys(self._keys, again))
        except Refusal as refusal:
            done(refusal)
        except Exception:  # noqa: BLE001 - whatever it was, the caller gets an answer and we the trace
            log.exception("call failed")
            done(Refusal("internal", INTERNAL))
