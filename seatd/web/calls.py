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
        try:
            self._seats.begin_acquire(self.caller, wanted, partial(self._told, "acquire", (wanted,), done))
        except Refusal as refusal:
            self._refused("acquire", (wanted,), done, refusal)

    def renew(self, lease: str, receipt: str, done: Done[Lease]) -> None:
        """Renew a lease by its receipt."""
        try:
            self._seats.begin_renew(
                self.caller, lease, receipt, partial(self._told, "renew", (lease, receipt), done)
            )
        except Refusal as refusal:
            self._refused("renew", (lease, receipt), done, refusal)

    def release(self, lease: str, receipt: str, done: Done[bool]) -> None:
        """Give a seat back."""
        try:
            self._seats.begin_release(
                self.caller, lease, receipt, partial(self._told, "release", (lease, receipt), done)
            )
        except Refusal as refusal:
            self._refused("release", (lease, receipt), done, refusal)

    def _told(self, verb: str, wanted: tuple[Any, ...], done: Done[T], outcome: T | Refusal | None) -> None:
        if outcome is None:
            self._the_long_way(verb, wanted, done)
        else:
            done(outcome)

    def _refused(self, verb: str, wanted: tuple[Any, ...], done: Done[T], refusal: Refusal) -> None:
        if refusal.code in NOT_OURS:  # by the keys that are known here
            self._the_long_way(verb, wanted, done)
        else:
            done(refusal)

    def _the_long_way(self, verb: str, wanted: tuple[Any, ...], done: Done[Any]) -> None:
        """Have the method of that name awaited."""
        task = asyncio.create_task(
            self._again(partial(getattr(self._seats, verb), self.caller, *wanted), done)
        )
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
