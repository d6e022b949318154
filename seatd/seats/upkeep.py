"""What the seat plane does by itself: look whether its store is still the one that is known, add lost events again, sweep.

Decides how often, and in which bounded steps.  Which process does it is not decided here.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from seatd.model import Refusal
from seatd.seats.batch import Batcher
from seatd.seats.service import Seats
from seatd.seats.store import Store, StoreAwayError, UnopenedError
from seatd.telemetry import log

LOOK_EVERY_S: Final = 1.0
SWEEP_EVERY_S: Final = 0.5
SWEEP_TENANTS: Final = 64
SWEEP_LEASES: Final = 256
ADD_AGAIN: Final = 256

Committed = Callable[[int], Awaitable[tuple[int, int]]]
"""Tell up to which epoch and number the events of a partition are in the ledger."""


class Upkeep:
    """The loops of a seat plane; `store` is for reads outside the batch."""

    def __init__(self, seats: Seats, store: Store, batchers: Sequence[Batcher], committed: Committed) -> None:
        self._seats = seats
        self._store = store
        self._batchers = batchers
        self._committed = committed

    async def keep_open_for_ever(self) -> None:
        """Look every second whether the store is still the one that is known, until cancelled.

        So learning begins when the store was lost, not when the first client comes.
        """
        while True:
            with contextlib.suppress(Refusal):
                await self._seats.reachable()
            await asyncio.sleep(LOOK_EVERY_S)

    async def add_lost_again_for_ever(self) -> None:
        """Bring what an earlier epoch acknowledged and lost into the stream of this one, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for batcher in self._batchers:
                with contextlib.suppress(Refusal, UnopenedError):
                    await self.add_lost_again(batcher)

    async def add_lost_again(self, batcher: Batcher) -> None:
        """Add what a partition's earlier epochs lost, in bounded lots; raises what an operation does."""
        kept = batcher.unrecorded
        if not kept:
            return
        kept.committed(*await self._committed(batcher.partition))
        lost = kept.lost()
        for first in range(0, len(lost), ADD_AGAIN):
            try:
                lot = lost[first : first + ADD_AGAIN]
                await asyncio.gather(*(batcher.submit("readd", ("", event)) for event in lot))
            except (Refusal, UnopenedError):
                kept.keep_lost(lost[first:])
                raise
        if lost:
            log.warning("events of a lost epoch added again", partition=batcher.partition, count=len(lost))

    async def sweep_for_ever(self) -> None:
        """End what ran out, in bounded steps, until cancelled."""
        while True:
            for batcher in self._batchers:
                with contextlib.suppress(Refusal, UnopenedError, StoreAwayError):
                    while await self.sweep_once(batcher):
                        pass
            await asyncio.sleep(SWEEP_EVERY_S)

    async def sweep_once(self, batcher: Batcher) -> bool:
        """Sweep the tenants of a partition that are due; True where more is waiting."""
        now_ms = await self._store.now_ms()
        due = await self._store.due(batcher.partition, now_ms, SWEEP_TENANTS)
        if not due:
            return False
        answers = await asyncio.gather(
            *(batcher.submit("sweep", (name, name, SWEEP_LEASES)) for name in due), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                log.debug("sweep failed", error=str(answer))
                return False
        return len(due) == SWEEP_TENANTS or any(answer[2] for answer in answers if isinstance(answer, list))
