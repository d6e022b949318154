"""Tombstones: whose receipts are void, so that no loss of the seat store brings an ended lease back.

Decides how long one is kept: until every receipt that it voids has run out, learning included.  A user has one at
most: a later start voids the earlier ones as well.  Users stand here by their person id.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from sqlalchemy import delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts import people
from seatd.database.bulk import insert_many
from seatd.database.schema import outbox, partitions, tenants
from seatd.database.schema import people as people_table
from seatd.database.schema import tombstones as table
from seatd.model import TTL_MS_MAX, Tombstone

KEPT_MS: Final = 2 * TTL_MS_MAX
"""Longer than any receipt runs and any tenant learns."""


_COLUMNS: Final = ("tenant", "person", "start_ms", "reason", "until_ms")
_LATER_STANDS: Final = (
    "ON CONFLICT (tenant, person) DO UPDATE SET until_ms = excluded.until_ms, "
    + ", ".join(
        f"{name} = CASE WHEN excluded.start_ms > tombstones.start_ms THEN excluded.{name} ELSE tombstones.{name} END"
        for name in ("start_ms", "reason")
    )
)
_EPOCHS: Final = select(partitions.c.partition, partitions.c.epoch).with_for_update(read=True)


class Burial(NamedTuple):
    """Receipts of a user with a start up to `start_ms` are to be void, for `reason`."""

    tenant: str
    user: str
    start_ms: int
    reason: str


async def bury(connection: AsyncConnection, burials: Iterable[Burial], now_ms: int) -> None:
    """Write tombstones; of two for one user the later start stands."""
    latest: dict[tuple[str, str], Burial] = {}
    for burial in burials:
        known = latest.get((burial.tenant, burial.user))
        if known is None or known.start_ms < burial.start_ms:
            latest[burial.tenant, burial.user] = burial
    persons = await people.persons_for(connection, latest.keys())
    rows = [
        (burial.tenant, persons[key], burial.start_ms, burial.reason, now_ms + KEPT_MS)
        for key, burial in sorted(latest.items())
    ]
    await insert_many(connection, table, _COLUMNS, rows, _LATER_STANDS)


async def epochs(connection: AsyncConnection) -> dict[int, int]:
    """Tell the newest epoch of each partition; no later one begins before this transaction ends."""
    return {partition: epoch for partition, epoch in await connection.execute(_EPOCHS)}  # noqa: C416 - rows are no pairs to the type checker


async def standing(connection: AsyncConnection, tenant: str, now_ms: int) -> tuple[Tombstone, ...]:
    """List the tombstones of a tenant that still matter, by user; erased names matter to no receipt."""
    query = (
        select(people_table.c.name, table.c.start_ms, table.c.reason)
        .join(
            people_table,
            (people_table.c.tenant == table.c.tenant) & (people_table.c.person == table.c.person),
        )
        .where(table.c.tenant == tenant, table.c.until_ms > now_ms, people_table.c.name.is_not(None))
        .order_by(people_table.c.name)
    )
    return tuple(Tombstone(*row) for row in await connection.execute(query))


async def forget(connection: AsyncConnection, now_ms: int) -> int:
    """Drop the tombstones that no longer matter; returns how many."""
    return (await connection.execute(delete(table).where(table.c.until_ms <= now_ms))).rowcount


async def acknowledge_ttls(connection: AsyncConnection, ids: Iterable[str], now_ms: int) -> None:
    """Note that the seat plane knows the ttl of these tenants, from when a shorter one counts down.

    Not where a later change waits in the outbox: what was acknowledged is an earlier policy.
    """
    shorter = (tenants.c.longest_ttl_ms > tenants.c.lease_ttl_ms) & tenants.c.shorter_since_ms.is_(None)
    waits = exists().where(outbox.c.tenant == tenants.c.id, outbox.c.scheduled.is_(False))
    await connection.execute(
        update(tenants).where(tenants.c.id.in_(sorted(ids)), shorter, ~waits).values(shorter_since_ms=now_ms)
    )


async def shorten_ttls(connection: AsyncConnection, now_ms: int, margin_ms: int) -> None:
    """Let the longest ttl fall where every lease of the longer one has run out."""
    over = tenants.c.shorter_since_ms + tenants.c.longest_ttl_ms + margin_ms <= now_ms
    await connection.execute(
        update(tenants).where(over).values(longest_ttl_ms=tenants.c.lease_ttl_ms, shorter_since_ms=None)
    )
