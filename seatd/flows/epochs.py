"""Open epochs: when the seat store is not the one that is known, begin anew, from SQL.

Its number comes from SQL, so that no loss of the store repeats one; every policy is unknown until it is
projected again, and then says whether its tenant learns.  A store that provably lost nothing (fsynced always, loaded
whole, its clock not behind what was noted) goes on where it was.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts.base import wall_clock_ms
from seatd.database.engine import inserting, locked, writing
from seatd.database.schema import partitions
from seatd.model import Refusal
from seatd.seats.batch import store_unavailable
from seatd.seats.store import PartitionState, Store, StoreAwayError
from seatd.telemetry import log

NOTE_EVERY_S: Final = 1.0


async def next_epoch(engine: AsyncEngine, partition: int, seen: int) -> int:
    """Take the next number for a partition; numbers may be skipped, never repeated.

    `seen` is the store's own: it is not repeated either where SQL came back from an older copy.
    """
    async with writing(engine) as connection:
        await connection.execute(
            inserting(connection, partitions)
            .values(partition=partition, epoch=0, opened_ms=wall_clock_ms())
            .on_conflict_do_nothing(index_elements=["partition"])
        )
        held = locked(select(partitions.c.epoch).where(partitions.c.partition == partition))
        epoch = max(int((await connection.execute(held)).scalar_one()), seen) + 1
        await connection.execute(
            partitions.update()
            .where(partitions.c.partition == partition)
            .values(epoch=epoch, opened_ms=wall_clock_ms())
        )
        return epoch


class Trust:
    """Whether a store may be known again after a restart, by the clock that was noted while it ran.

    `whole` tells whether the store loaded all it had; without it (a store that is not ours) nothing is trusted.
    """

    def __init__(self, path: Path, whole: Callable[[], bool] | None) -> None:
        self._path = path
        self._whole = whole

    def holds(self, state: PartitionState) -> bool:
        """Tell whether a store in this state lost nothing: an older copy of its file has an older clock."""
        if self._whole is None or not state.epoch or not self._whole():
            return False
        try:
            return state.hwm_ms >= int(self._path.read_text())
        except (OSError, ValueError):
            return False

    def note(self, hwm_ms: int) -> None:
        """Note the store's clock, whole or not at all."""
        if self._whole is None:
            return
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(f"{hwm_ms}\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


class Epochs:
    """Opens the partitions of one store."""

    def __init__(self, engine: AsyncEngine, store: Store, trust: Trust) -> None:
        self._engine = engine
        self._store = store
        self._trust = trust

    async def open(self, partition: int, stepped: int) -> bool:
        """Open the partition unless it is open on this store; tell if that was new.

        `stepped` is the epoch in which the store's clock jumped, 0 where it did not: that epoch is over, too.

        Raises `Refusal` `store_unavailable` where the store or SQL is away: nothing can be served from a partition
        without an epoch.
        """
        self._store.doubt()  # another node may be the primary by now
        try:
            state = await self._store.look(partition)
            if state.known and state.epoch != stepped:
                return False
            if not stepped and self._trust.holds(state):
                await self._store.know_again(partition, state.epoch)
                log.info("store known again", partition=partition, epoch=state.epoch)
                return False
            epoch = await next_epoch(self._engine, partition, state.epoch)
            opened = await self._store.open_epoch(partition, state.epoch, epoch)
        except (StoreAwayError, Refusal) as error:
            log.warning("epoch cannot be opened", partition=partition, error=str(error))
            raise store_unavailable() from error
        log.warning(
            "epoch opened", partition=partition, epoch=opened.epoch, before=state.epoch, stepped=stepped
        )
        self._note(opened.hwm_ms)
        return True

    def _note(self, hwm_ms: int) -> None:
        try:
            self._trust.note(hwm_ms)
        except OSError as error:  # without it the store learns after its next restart; nothing else is lost
            log.warning("clock not noted", error=str(error))

    async def note_for_ever(self) -> None:
        """Note the store's clock every second, until cancelled; one partition, as an embedded store has."""
        noted = 0
        while True:
            await asyncio.sleep(NOTE_EVERY_S)
            try:
                state = await self._store.look(0)
                if state.known and state.hwm_ms > noted:
                    self._note(state.hwm_ms)
                    noted = state.hwm_ms
            except StoreAwayError as error:
                log.debug("clock not noted", error=str(error))
