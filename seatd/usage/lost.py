"""End in the ledger what was lost with the seat store and never came back.

A lease that an epoch has not adopted within the longest time that any receipt holds is over, and no store knows it any
more to say so.  When exactly its client went nobody can tell: it is ended at the loss, in its tenant's
favour, as run out; so an adoption that is recorded late after all takes the end back.  Decides nothing of
leases that an epoch knows.
"""

from typing import Final

from sqlalchemy import case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.database.schema import ledger_leases, partitions
from seatd.model import TTL_MS_MAX
from seatd.usage.fold import EXPIRED

LOST_AFTER_MS: Final = TTL_MS_MAX * 101 // 100 + 120_000
"""Longer than a tenant learns, clocks and delays included."""


async def end_lost(connection: AsyncConnection, now_ms: int) -> int:
    """End the open leases of earlier epochs, where the newest was opened long enough ago; returns how many.

    To be called when every event is recorded: what waits in a stream may be an adoption.
    """
    ended = 0
    opened = await connection.execute(
        select(partitions).where(partitions.c.epoch > 1, partitions.c.opened_ms <= now_ms - LOST_AFTER_MS)
    )
    row = ledger_leases.c
    latest = func.coalesce(row.end_epoch, row.start_epoch)  # an open lease's end_epoch is its adoption's
    for partition in opened.all():
        # As the word of the epoch before, so that an adoption in this one has the last.
        at_ms = case((row.started_ms > partition.opened_ms, row.started_ms), else_=partition.opened_ms)
        result = await connection.execute(
            update(ledger_leases)
            .where(
                row.partition == partition.partition,
                row.ended_ms.is_(None),
                or_(row.start_epoch.is_(None), row.start_epoch < partition.epoch),
                latest < partition.epoch,
            )
            .values(ended_ms=at_ms, end_epoch=partition.epoch - 1, end_reason=EXPIRED)
        )
        ended += result.rowcount
    return ended
