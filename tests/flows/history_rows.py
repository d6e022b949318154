"""Write the events of a history into a database as the rows that the account plane and the recorder would write."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from seatd.billing.events import Booked, Bound, Denied, Event, Metered, SeatEnded, SeatStarted, TariffSet
from seatd.billing.history import History
from seatd.database.engine import writing
from seatd.database.schema import (
    bindings,
    bookings,
    denials,
    metadata,
    meters,
    people,
    tariffs,
    tenants,
)
from seatd.usage.fold import Known
from seatd.usage.intervals import FOREVER_MS
from seatd.usage.writing import Writer


async def wipe(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        for table in reversed(metadata.sorted_tables):
            if table.name not in ("usage_chain", "chain_heads"):  # append-only
                await connection.execute(table.delete())


async def write_history(engine: AsyncEngine, events: Iterable[Event]) -> None:
    """Write all events; each tenant's users become people with ids of their own."""
    told = list(events)
    async with writing(engine) as connection:
        for tenant in sorted({event.tenant for event in told}):
            await _write_tenant(connection, tenant, [event for event in told if event.tenant == tenant])


async def _write_tenant(connection: AsyncConnection, tenant: str, events: list[Event]) -> None:
    async def write(table: Any, rows: list[dict[str, Any]]) -> None:
        if rows:
            await connection.execute(insert(table), [{"tenant": tenant, **row} for row in rows])

    await connection.execute(
        insert(tenants).values(
            id=tenant,
            name=tenant,
            customer=tenant,
            labels={},
            lease_ttl_ms=300_000,
            policy_version=1,
            created_ms=0,
            changed_ms=0,
        )
    )
    facts = History(events).facts(tenant)
    users = sorted({e.user for e in events if isinstance(e, SeatStarted | Bound | Denied)})
    person = {user: f"p_{number:016}" for number, user in enumerate(users)}
    await write(people, [{"person": person[user], "name": user} for user in users])
    await write(
        tariffs,
        [
            {"tariff": e.tariff, "trial": e.trial, "at_ms": e.at_ms, "decided_ms": e.at_ms}
            for e in events
            if isinstance(e, TariffSet)
        ],
    )
    await write(
        bookings,
        [
            {
                "product": e.product,
                "quantity": e.quantity,
                "effective_ms": e.at_ms,
                "decided_ms": e.at_ms,
            }
            for e in events
            if isinstance(e, Booked)
        ],
    )
    await write(
        bindings,
        [
            {
                "product": product,
                "person": person[user],
                "bound_ms": start,
                "unbound_ms": None if end == FOREVER_MS else end,
            }
            for product, named in facts.bindings.items()
            for user, spans in named.items()
            for start, end in spans
        ],
    )
    await write(
        meters,
        list(
            {
                (e.product, e.id): {
                    "product": e.product,
                    "id": e.id,
                    "quantity": format(e.quantity, "f"),
                    "at_ms": e.at_ms,
                }
                for e in events
                if isinstance(e, Metered)
            }.values()
        ),
    )
    known = {(tenant, lease): known for lease, known in _leases(events, person).items()}
    await (await Writer.begin(connection, 0)).leases(known, {})
    await write(
        denials,
        list(
            {
                (e.user, e.reason, e.at_ms): {
                    "person": person[e.user],
                    "reason": e.reason,
                    # The ledger holds one a minute; a history need not.
                    "minute_ms": e.at_ms,
                    "at_ms": e.at_ms,
                }
                for e in events
                if isinstance(e, Denied)
            }.values()
        ),
    )


def _leases(events: list[Event], person: dict[str, str]) -> dict[str, Known]:
    ends = {e.lease: e.at_ms for e in events if isinstance(e, SeatEnded)}
    return {
        e.lease: Known(
            person[e.user],
            e.tariff or "team",
            started_ms=e.at_ms,
            start_epoch=1,
            ended_ms=ends.get(e.lease),
            end_epoch=1 if e.lease in ends else None,
            end_reason="released" if e.lease in ends else None,
        )
        for e in events
        if isinstance(e, SeatStarted)
    }
