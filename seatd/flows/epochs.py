"""Open an epoch of a partition: its number comes from SQL, so that no loss of the store repeats one."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts.base import wall_clock_ms
from seatd.database.engine import inserting, locked, writing
from seatd.database.schema import partitions
from seatd.model import Refusal
from seatd.seats.batch import store_unavailable
from seatd.seats.store import Store, StoreAwayError
from seatd.telemetry import log


async def next_epoch(engine: AsyncEngine, partition: int) -> int:
    """Take the next number for a partition; numbers may be skipped, never repeated."""
    async with writing(engine) as connection:
        await connection.execute(
            inserting(connection, partitions)
            .values(partition=partition, epoch=0, opened_ms=wall_clock_ms())
            .on_conflict_do_nothing(index_elements=["partition"])
        )
        held = locked(select(partitions.c.epoch).where(partitions.c.partition == partition))
        epoch = int((await connection.execute(held)).scalar_one()) + 1
        await connection.execute(
            partitions.update()
            .where(partitions.c.partition == partition)
            .values(epoch=epoch, opened_ms=wall_clock_ms())
        )
        return epoch


async def open_epoch(engine: AsyncEngine, store: Store, partition: int) -> int:
    """Open the partition unless it is open; returns the epoch that is open now.

    Raises `Refusal` `store_unavailable` where the store or SQL is away: nothing can be served from a
    partition without an epoch.
    """
    try:
        epoch = await next_epoch(engine, partition)
        opened = await store.open_epoch(partition, epoch)
    except (StoreAwayError, Refusal) as error:
        log.warning("epoch cannot be opened", partition=partition, error=str(error))
        raise store_unavailable() from error
    log.info("epoch opened", partition=partition, epoch=opened)
    return opened
