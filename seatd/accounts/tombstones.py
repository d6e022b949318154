"""Tombstones: whose receipts are void, so that no loss of the seat store brings an ended lease back.

Decides how long one is kept: until every receipt that it voids has run out, learning included.  A user has one at
most: a later start voids the earlier ones as well.  Users stand here by their person id.
"""

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from sqlalchemy import delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from seatd.accounts import people
from seatd.database.engine import write_at_once
from seatd.database.schema import outbox, tenants
from seatd.database.schema import people as people_table
from seatd.database.schema import tombstones as table
from seatd.database.sqlite_driver import Statement
from seatd.model import TTL_MS_MAX, Tombstone

KEPT_MS: Final = 2 * TTL_MS_MAX
"""Longer than any receipt runs and any tenant learns."""


_PERSON: Final = (
    "INSERT INTO people (tenant, person, name) VALUES (?, ?, ?) ON CONFLICT (tenant, name) DO NOTHING"
)
_TOMBSTONE: Final = """
    INSERT INTO tombstones (tenant, person, start_ms, reason, until_ms)
    SELECT tenant, person, CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS BIGINT)
    FROM people WHERE tenant = ? AND name = ?
    ON CONFLICT (tenant, person) DO UPDATE SET
        reason = CASE WHEN excluded.start_ms > tombstones.start_ms THEN excluded.reason ELSE tombstones.reason END,
        start_ms = CASE WHEN excluded.start_ms > tombstones.start_ms THEN excluded.start_ms ELSE tombstones.start_ms END,
        until_ms = excluded.until_ms
"""
_EPOCHS: Final = "SELECT partition, epoch FROM partitions"


class Burial(NamedTuple):
    """Receipts of a user with a start up to `start_ms` are to be void, for `reason`."""

    tenant: str
    user: str
    start_ms: int
    reason: str


async def bury(engine: AsyncEngine, burials: Iterable[Burial], now_ms: int) -> dict[int, int]:
    """Write tombstones in one transaction; gives the newest epoch of each partition, after which none begins before its end.

    Of two for one user the later start stands.  Sorted before they are written: two writers never wait for each other in a
    circle.  Raises what `writing` raises.
    """
    ordered = sorted(burials)
    named = sorted({(burial.tenant, burial.user) for burial in ordered})
    until_ms = now_ms + KEPT_MS
    locked = "" if engine.dialect.name == "sqlite" else " FOR SHARE"
    rows = await write_at_once(
        engine,
        (
            Statement(_PERSON, [(tenant, people.new_id(), user) for tenant, user in named]),
            Statement(
                _TOMBSTONE,
                [(start, reason, until_ms, tenant, user) for tenant, user, start, reason in ordered],
            ),
            Statement(_EPOCHS + locked),
        ),
    )
    return {partition: epoch for partition, epoch in rows}  # noqa: C416 - rows are no pairs to the type checker


async def standing(
    connection: AsyncConnection, ids: Collection[str], now_ms: int
) -> dict[str, tuple[Tombstone, ...]]:
    """List the tombstones of tenants that still matter, by tenant and user; erased names matter to no receipt."""
    query = (
        select(table.c.tenant, people_table.c.name, table.c.start_ms, table.c.reason)
        .join(
            people_table,
            (people_table.c.tenant == table.c.tenant) & (people_table.c.person == table.c.person),
        )
        .where(table.c.tenant.in_(ids), table.c.until_ms > now_ms, people_table.c.name.is_not(None))
        .order_by(table.c.tenant, people_table.c.name)
    )
    found: dict[str, list[Tombstone]] = {}
    for tenant, *told in await connection.execute(query):
        found.setdefault(tenant, []).append(Tombstone(*told))
    return {tenant: tuple(stones) for tenant, stones in found.items()}


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
