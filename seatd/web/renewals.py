"""Renewals without a task each: begun at once, settled when the batch comes back.

What the script renewed or refused is answered from the callback; all that needs another step (a policy to be brought, an
epoch to be opened, newer keys to be looked for) takes the way that every other caller takes.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from seatd.flows.keyring import Keys
from seatd.model import Refusal
from seatd.seats.model import Caller, Lease
from seatd.seats.receipts import Receipt
from seatd.seats.service import Seats
from seatd.seats.store import Answer
from seatd.telemetry import log
from seatd.web.client import with_newest_keys

Done = Callable[[Lease | Refusal], None]
"""Told what became of one renewal, once."""

INTERNAL: Final = "Something went wrong on our side."


class Renewals:
    """Begins renewals for one caller."""

    def __init__(self, seats: Seats, keys: Keys, caller: Caller) -> None:
        self._seats = seats
        self._keys = keys
        self.caller = caller
        self._long: set[asyncio.Task[None]] = set()

    def begin(self, lease: str, receipt: str, done: Done) -> None:
        """Begin to renew a lease by its receipt; `done` may be called before this returns."""
        try:
            self._seats.begin_renew(self.caller, lease, receipt, partial(self._settle, receipt, done))
        except Refusal as refusal:
            if refusal.code == "receipt_invalid":  # by the keys that are known here
                self._the_long_way(lease, receipt, done)
            else:
                done(refusal)

    def _settle(self, receipt: str, done: Done, held: Receipt, answer: Answer | Exception) -> None:
        if isinstance(answer, Refusal):
            done(answer)
        elif isinstance(answer, Exception) or answer[0] == "unknown_tenant":
            self._the_long_way(held.lease, receipt, done)
        else:
            try:
                renewed: Lease | Refusal = self._seats.renewed(held, answer)
            except Refusal as refusal:
                renewed = refusal
            done(renewed)

    def _the_long_way(self, lease: str, receipt: str, done: Done) -> None:
        task = asyncio.create_task(self._renew(lease, receipt, done))
        self._long.add(task)
        task.add_done_callback(self._long.discard)

    async def _renew(self, lease: str, receipt: str, done: Done) -> None:
        seats, caller = self._seats, self.caller
        try:
            done(await with_newest_keys(self._keys, lambda: seats.renew(caller, lease, receipt)))
        except Refusal as refusal:
            done(refusal)
        except Exception:  # noqa: BLE001 - whatever it was, the caller gets an answer and we the trace
            log.exception("renewal failed")
            done(Refusal("internal", INTERNAL))
