"""What has yet to be projected to the seat plane: a row for every change, written with it.

A row goes only when its projection was acknowledged, so that a seatd which dies in between leaves the work to the
next one.  A row that was scheduled raises the policy's version when it falls due: what holds
from then on is another policy.
"""

from collections.abc import Iterable

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts.changes import lock_tenant, raise_version
from seatd.accounts.records import Due
from seatd.database.schema import outbox


async def due(connection: AsyncConnection, *, limit: int) -> tuple[Due, ...]:
    """List the oldest rows that are due: what was changed, and what was scheduled and fell due (`fall_due`).

    No clock is asked: a seatd whose clock lags projects a change of another one all the same.
    """
    query = (
        select(outbox.c.id, outbox.c.tenant)
        .where(outbox.c.scheduled.is_(False))
        .order_by(outbox.c.due_ms, outbox.c.id)
        .limit(limit)
    )
    return tuple(Due(row.id, row.tenant) for row in await connection.execute(query))


async def awaits(connection: AsyncConnection, now_ms: int) -> bool:
    """Tell whether a scheduled row is due and has not raised its policy's version."""
    query = select(outbox.c.id).where(outbox.c.due_ms <= now_ms, outbox.c.scheduled).limit(1)
    return (await connection.execute(query)).one_or_none() is not None


async def fall_due(connection: AsyncConnection, now_ms: int, *, limit: int) -> None:
    """Raise the version of each policy for which something scheduled takes effect by `now_ms`."""
    query = (
        select(outbox)
        .where(outbox.c.due_ms <= now_ms, outbox.c.scheduled)
        .order_by(outbox.c.tenant, outbox.c.due_ms)
        .limit(limit)
    )
    for row in (await connection.execute(query)).all():
        tenant = await lock_tenant(connection, row.tenant)
        claimed = await connection.execute(
            update(outbox).where(outbox.c.id == row.id, outbox.c.scheduled).values(scheduled=False)
        )
        if claimed.rowcount:  # else another seatd was first
            await raise_version(connection, row.tenant, max(tenant.changed_ms, row.due_ms))


async def done(connection: AsyncConnection, ids: Iterable[int]) -> None:
    """Remove rows whose projection was acknowledged."""
    await connection.execute(delete(outbox).where(outbox.c.id.in_(list(ids))))


async def next_due_ms(connection: AsyncConnection) -> int | None:
    """Give the instant at which the next row is due, passed or to come; None where there is none."""
    due_ms: int | None = (await connection.execute(select(func.min(outbox.c.due_ms)))).scalar_one()
    return due_ms
