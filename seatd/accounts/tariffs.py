"""Which tariff a tenant has: one or none at any instant, as a history of settings.

The setting in force is the latest that was not cancelled.  A trial is a tariff with an end: it is set together
with a second setting, `tariff` null, at `trial_until_ms`.  So a trial that runs out leaves no tariff, and a paid one never
starts by itself.  Whoever sets a tariff afterwards, or clears `trial_until_ms` before, takes the trial up: the
tariff is charged from that instant on.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts.changes import Change
from seatd.database.schema import tariffs
from seatd.model import Tariff


@dataclass(frozen=True, slots=True)
class TariffLine:
    """A setting: what holds from `at_ms` on.  `tariff` none and `trial`: a trial ran out."""

    tariff: Tariff | None
    trial: bool
    at_ms: int


async def in_force(connection: AsyncConnection, ids: Iterable[str], at_ms: int) -> dict[str, TariffLine]:
    """Give the setting in force at `at_ms` of each of these tenants; those without any are left out."""
    query = (
        select(tariffs)
        .where(tariffs.c.tenant.in_(list(ids)), tariffs.c.at_ms <= at_ms, tariffs.c.cancelled_ms.is_(None))
        .order_by(tariffs.c.tenant, tariffs.c.at_ms, tariffs.c.id)
    )
    return {
        row.tenant: TariffLine(Tariff(row.tariff) if row.tariff else None, row.trial, row.at_ms)
        for row in await connection.execute(query)
    }


async def last_tariff(connection: AsyncConnection, tenant: str, at_ms: int) -> Tariff | None:
    """Give the latest tariff up to `at_ms` that was not null: what a trial that ran out was a trial of."""
    query = (
        select(tariffs.c.tariff)
        .where(
            tariffs.c.tenant == tenant,
            tariffs.c.at_ms <= at_ms,
            tariffs.c.cancelled_ms.is_(None),
            tariffs.c.tariff.is_not(None),
        )
        .order_by(tariffs.c.at_ms.desc(), tariffs.c.id.desc())
        .limit(1)
    )
    found = (await connection.execute(query)).scalar_one_or_none()
    return Tariff(found) if found else None


async def settle(change: Change, wanted: Tariff | None, trial_until_ms: int | None) -> bool:
    """Let `wanted` hold from now, on trial until `trial_until_ms` where that is to come.

    Gives false, and writes nothing, where that holds already.  Whoever calls has made sure that
    `trial_until_ms` is none or to come.
    """
    trial = wanted is not None and trial_until_ms is not None
    found = await in_force(change.connection, [change.tenant], change.now_ms)
    now = found.get(change.tenant)
    until = await _planned_end(change)
    same = (now.tariff, now.trial) == (wanted, trial) if now else wanted is None
    # After a trial that ran out, "no tariff" holds already, whether or not it was a trial's end.
    if not same and now is not None and now.tariff is None and wanted is None:
        same = True
    if same and until == (trial_until_ms if trial else None):
        return False
    await _cancel_planned(change)
    if not same:
        await _add(change, wanted, trial=trial, at_ms=change.now_ms)
    if trial and trial_until_ms is not None:
        await _add(change, None, trial=True, at_ms=trial_until_ms)
        await change.schedule(trial_until_ms)
    return True


async def _add(change: Change, tariff: Tariff | None, *, trial: bool, at_ms: int) -> None:
    await change.connection.execute(
        insert(tariffs).values(
            tenant=change.tenant, tariff=tariff, trial=trial, at_ms=at_ms, decided_ms=change.now_ms
        )
    )


async def _planned_end(change: Change) -> int | None:
    query = select(tariffs.c.at_ms).where(
        tariffs.c.tenant == change.tenant,
        tariffs.c.at_ms > change.now_ms,
        tariffs.c.cancelled_ms.is_(None),
    )
    return (await change.connection.execute(query)).scalar_one_or_none()


async def _cancel_planned(change: Change) -> None:
    await change.connection.execute(
        update(tariffs)
        .where(
            tariffs.c.tenant == change.tenant,
            tariffs.c.at_ms > change.now_ms,
            tariffs.c.cancelled_ms.is_(None),
        )
        .values(cancelled_ms=change.now_ms)
    )
