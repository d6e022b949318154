"""One tenant's rules, read from SQL as the seat plane is to enforce them.

Decides how history becomes a policy at one instant.  A trial that ran out keeps its tariff and its
`trial_until_ms`, which has passed: so the seat plane says `trial_expired` the same way before and after it hears of it.
"""

from collections.abc import Set as AbstractSet
from typing import Any, Final

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts import bookings, keys, tariffs, tombstones
from seatd.accounts.tariffs import TariffLine
from seatd.database.schema import bindings, partitions, people, tenants
from seatd.model import Policy, Tariff

CLOCKS_MS: Final = 60_000
"""How far the clocks of two seatds may be apart when they say which came first, a tenant or an epoch."""


async def load(
    connection: AsyncConnection,
    tenant: str,
    now_ms: int,
    *,
    tenant_scoped: AbstractSet[str],
    partition: int = 0,
) -> Policy | None:
    """Load the policy of a tenant at `now_ms`, or at its latest change if that is later.

    `tenant_scoped` are the products that everybody of a tenant has while they are booked.  None where there
    is no such tenant.
    """
    epoch, opened_ms = await _epoch(connection, partition)  # first: after a later one all this is read again
    row = (await connection.execute(select(tenants).where(tenants.c.id == tenant))).one_or_none()
    if row is None:
        return None
    at_ms = max(now_ms, row.changed_ms)
    line = (await tariffs.in_force(connection, [tenant], at_ms)).get(tenant)
    tariff, trial_until_ms = await _tariff(connection, row, line, at_ms)
    booked = (await bookings.in_force(connection, [tenant], at_ms)).get(tenant, ())
    open_addons = {
        b.product for b in booked if b.product in tenant_scoped and b.state == "in_force" and b.quantity
    }
    return Policy(
        tenant=tenant,
        version=row.policy_version,
        tariff=tariff,
        cap=bookings.quantity_of(booked, tariff.product) if tariff else 0,
        ttl_ms=row.lease_ttl_ms,
        no_tariff_since_ms=0 if tariff else (line.at_ms if line else row.created_ms),
        suspended_since_ms=row.suspended_since_ms,
        trial_until_ms=trial_until_ms,
        bindings=await _bindings(connection, tenant),
        open_addons=tuple(sorted(open_addons)),
        keys=await keys.grants_of(connection, tenant, at_ms),
        ended_version=row.ended_version,
        ended_reason=row.ended_reason,
        learn_ttl_ms=row.longest_ttl_ms if _may_learn(row, epoch, opened_ms) else 0,
        tombstones=await tombstones.standing(connection, tenant, now_ms),
        epoch=epoch,
    )


async def _epoch(connection: AsyncConnection, partition: int) -> tuple[int, int]:
    query = select(partitions.c.epoch, partitions.c.opened_ms).where(partitions.c.partition == partition)
    opened = (await connection.execute(query)).one_or_none()
    return (opened.epoch, opened.opened_ms) if opened else (0, 0)


def _may_learn(row: Row[Any], epoch: int, opened_ms: int) -> bool:
    """Tell whether receipts may be about that the store does not know: the tenant is older than the epoch.

    The first epoch of a partition that SQL has never seen before has nothing to learn.
    """
    return epoch > 1 and row.created_ms < opened_ms + CLOCKS_MS


async def _tariff(
    connection: AsyncConnection, row: Row[Any], line: TariffLine | None, at_ms: int
) -> tuple[Tariff | None, int | None]:
    """Give the tariff that the seat plane knows, and until when it is on trial."""
    if line is None or not line.trial:
        return (line.tariff if line else None), None
    if line.tariff is not None:
        return line.tariff, row.trial_until_ms
    return await tariffs.last_tariff(connection, row.id, at_ms), line.at_ms


async def _bindings(connection: AsyncConnection, tenant: str) -> dict[str, tuple[str, ...]]:
    query = (
        select(people.c.name, bindings.c.product)
        .join(people, (people.c.tenant == bindings.c.tenant) & (people.c.person == bindings.c.person))
        .where(bindings.c.tenant == tenant, bindings.c.unbound_ms.is_(None), people.c.name.is_not(None))
        .order_by(people.c.name, bindings.c.product)
    )
    found: dict[str, tuple[str, ...]] = {}
    for name, product in await connection.execute(query):
        found[name] = (*found.get(name, ()), product)
    return found
