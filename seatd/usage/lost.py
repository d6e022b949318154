"""End in the ledger what was lost with the seat store and never came back.

A lease that an epoch has not adopted within the longest time that any receipt holds is over, and no store knows it any
more to say so.  When exactly its client went nobody can tell: it is ended at the loss, in its tenant's
favour, as run out; so an adoption that is recorded late after all takes the end back.  Decides nothing of
leases that an epoch knows.
"""

from typing import Final

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.database.schema import late_leases, ledger_leases, partitions
from seatd.model import TTL_MS_MAX
from seatd.usage.fold import EXPIRED
from seatd.usage.writing import Writer

LOST_AFTER_MS: Final = TTL_MS_MAX * 101 // 100 + 120_000
"""Longer than a tenant learns, clocks and delays included."""
AT_ONCE: Final = 20_000


async def end_lost(connection: AsyncConnection, now_ms: int) -> int:
    """End the open leases of earlier epochs, where the newest was opened long enough ago; returns how many.

    To be called when every event is recorded: what waits in a stream may be an adoption.  Ends so many at once that
    the recorder need not wait long; call again where that many were ended.
    """
    ended = 0
    row = partitions.c
    query = select(row.partition, row.epoch, row.opened_ms).where(
        row.epoch > 1, row.opened_ms <= now_ms - LOST_AFTER_MS
    )
    for partition, epoch, opened_ms in (await connection.execute(query)).all():
        writer = await Writer.begin(connection, partition)
        keys = set(await lost_leases(connection, partition, epoch))
        known = await writer.known(keys)
        # As the word of the epoch before, so that an adoption in this one has the last.
        over = {
            key: lease._replace(
                ended_ms=max(opened_ms, lease.started_ms or 0), end_epoch=epoch - 1, end_reason=EXPIRED
            )
            for key, lease in known.items()
            if lease.ended_ms is None
        }
        await writer.leases(over, known)
        ended += len(over)
    return ended


async def lost_leases(connection: AsyncConnection, partition: int, epoch: int) -> list[tuple[str, str]]:
    """List leases, some at a time, that are open and of earlier epochs than the newest of their partition."""
    found: list[tuple[str, str]] = []
    for table in (ledger_leases, late_leases):
        row = table.c
        latest = func.coalesce(row.end_epoch, row.start_epoch)  # an open lease's end_epoch is its adoption's
        query = select(row.tenant, row.lease).where(
            row.partition == partition,
            row.ended_ms.is_(None),
            or_(row.start_epoch.is_(None), row.start_epoch < epoch),
            latest < epoch,
        )
        found += [(tenant, lease) for tenant, lease in await connection.execute(query.limit(AT_ONCE))]
    return found
