"""Tenants' rules, read from SQL as the seat plane is to enforce them: many tenants in as many questions as one.

Decides how history becomes a policy at one instant.  A trial that ran out keeps its tariff and its
`trial_until_ms`, which has passed: so the seat plane says `trial_expired` the same way before and after it hears of it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts import bookings, keys, tariffs, tombstones
from seatd.accounts.records import Booking
from seatd.accounts.tariffs import TariffLine
from seatd.database.schema import bindings, partitions, people, tenants
from seatd.model import KeyGrant, Policy, Tariff, Tombstone

CLOCKS_MS: Final = 60_000
"""How far the clocks of two seatds may be apart when they say which came first, a tenant or an epoch."""


async def load(
    connection: AsyncConnection,
    ids: Iterable[str],
    now_ms: int,
    *,
    tenant_scoped: AbstractSet[str],
    partition_of: Callable[[str], int],
) -> dict[str, Policy]:
    """Load the policies of tenants at `now_ms`, each at its latest change if that is later; by tenant.

    `tenant_scoped` are the products that everybody of a tenant has while they are booked, `partition_of` tells where a
    tenant's seats are.  Tenants that there are not are left out.
    """
    epochs = await _epochs(connection)  # first: after a later one all this is read again
    found = await connection.execute(select(tenants).where(tenants.c.id.in_(sorted(ids))))
    by_instant: dict[int, list[Row[Any]]] = {}
    for row in found:
        by_instant.setdefault(max(now_ms, row.changed_ms), []).append(row)
    policies: dict[str, Policy] = {}
    for at_ms, rows in by_instant.items():
        known = await _Known.of(connection, [row.id for row in rows], now_ms, at_ms)
        for row in rows:
            epoch, opened_ms = epochs.get(partition_of(row.id), (0, 0))
            tariff, trial_until_ms = await _tariff(connection, row, known.lines.get(row.id), at_ms)
            policy = known.policy(row, tariff, trial_until_ms, tenant_scoped)
            learn_ttl_ms = row.longest_ttl_ms if _may_learn(row, epoch, opened_ms) else 0
            policies[row.id] = replace(policy, learn_ttl_ms=learn_ttl_ms, epoch=epoch)
    return policies


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of some tenants, by tenant; who has nothing of a kind is left out."""

    lines: Mapping[str, TariffLine]
    booked: Mapping[str, tuple[Booking, ...]]
    bindings: Mapping[str, dict[str, tuple[str, ...]]]
    keys: Mapping[str, dict[str, KeyGrant]]
    tombstones: Mapping[str, tuple[Tombstone, ...]]

    @classmethod
    async def of(cls, connection: AsyncConnection, ids: list[str], now_ms: int, at_ms: int) -> "_Known":
        return cls(
            await tariffs.in_force(connection, ids, at_ms),
            await bookings.in_force(connection, ids, at_ms),
            await _bindings(connection, ids),
            await keys.grants_of(connection, ids, at_ms),
            await tombstones.standing(connection, ids, now_ms),
        )

    def policy(
        self,
        row: Row[Any],
        tariff: Tariff | None,
        trial_until_ms: int | None,
        tenant_scoped: AbstractSet[str],
    ) -> Policy:
        line, booked = self.lines.get(row.id), self.booked.get(row.id, ())
        open_addons = {
            b.product for b in booked if b.product in tenant_scoped and b.state == "in_force" and b.quantity
        }
        return Policy(
            tenant=row.id,
            version=row.policy_version,
            tariff=tariff,
            cap=bookings.quantity_of(booked, tariff.product) if tariff else 0,
            ttl_ms=row.lease_ttl_ms,
            no_tariff_since_ms=0 if tariff else (line.at_ms if line else row.created_ms),
            suspended_since_ms=row.suspended_since_ms,
            trial_until_ms=trial_until_ms,
            bindings=self.bindings.get(row.id, {}),
            open_addons=tuple(sorted(open_addons)),
            keys=self.keys.get(row.id, {}),
            ended_version=row.ended_version,
            ended_reason=row.ended_reason,
            tombstones=self.tombstones.get(row.id, ()),
        )


async def _epochs(connection: AsyncConnection) -> dict[int, tuple[int, int]]:
    """Give the epoch of each partition, and when it was opened."""
    rows = await connection.execute(
        select(partitions.c.partition, partitions.c.epoch, partitions.c.opened_ms)
    )
    return {row.partition: (row.epoch, row.opened_ms) for row in rows}


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


async def _bindings(
    connection: AsyncConnection, ids: Collection[str]
) -> dict[str, dict[str, tuple[str, ...]]]:
    query = (
        select(bindings.c.tenant, people.c.name, bindings.c.product)
        .join(people, (people.c.tenant == bindings.c.tenant) & (people.c.person == bindings.c.person))
        .where(bindings.c.tenant.in_(ids), bindings.c.unbound_ms.is_(None), people.c.name.is_not(None))
        .order_by(bindings.c.tenant, people.c.name, bindings.c.product)
    )
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for tenant, name, product in await connection.execute(query):
        of_tenant = found.setdefault(tenant, {})
        of_tenant[name] = (*of_tenant.get(name, ()), product)
    return found
