"""The account's side of a history: what billing rates, line by line, as plain data.

Decides how rows become lines: a booking that was replaced before it took effect never was; a trial that ran out is a line without tariff;
a binding is two lines.  Lines come sorted by instant, those of one instant in the order of decision, so that
the later line wins.  Users are person ids.  Only what a tenant's rows say may be here, nothing of leases.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row, Select, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.database.schema import bindings, bookings, meters, tariffs
from seatd.database.schema import tenants as all_tenants
from seatd.model import Tariff


@dataclass(frozen=True, slots=True)
class TariffFact:
    """From `at_ms` on the tenant has this tariff, or none."""

    tenant: str
    at_ms: int
    tariff: Tariff | None
    trial: bool


@dataclass(frozen=True, slots=True)
class BookingFact:
    """From `at_ms` on this quantity of a product is booked."""

    tenant: str
    at_ms: int
    product: str
    quantity: int


@dataclass(frozen=True, slots=True)
class BindingFact:
    """At `at_ms` a person was bound to a product, or unbound from it."""

    tenant: str
    at_ms: int
    event: Literal["bound", "unbound"]
    product: str
    person: str


@dataclass(frozen=True, slots=True)
class MeteredFact:
    """A quantity (decimal text) was reported for `at_ms`."""

    tenant: str
    at_ms: int
    product: str
    quantity: str
    id: str


Fact = TariffFact | BookingFact | BindingFact | MeteredFact


async def tenant_ids(connection: AsyncConnection) -> tuple[str, ...]:
    """List every tenant that ever was, sorted by code point."""
    rows = await connection.execute(select(all_tenants.c.id).order_by(all_tenants.c.id))
    return tuple(rows.scalars())


async def facts(
    connection: AsyncConnection, tenants: Collection[str], until_ms: int
) -> defaultdict[str, list[Fact]]:
    """Give the lines of some tenants before `until_ms`, by tenant: its tariffs, bookings, bindings and meters, each in order.

    Metered quantities of all time come too; who rates a month takes those of it.
    """
    found: defaultdict[str, list[Fact]] = defaultdict(list)
    for row in await _rows(connection, _tariffs(tenants, until_ms)):
        tariff = Tariff(row.tariff) if row.tariff else None
        found[row.tenant].append(TariffFact(row.tenant, row.at_ms, tariff, row.trial and tariff is not None))
    for row in await _rows(connection, _bookings(tenants, until_ms)):
        found[row.tenant].append(BookingFact(row.tenant, row.effective_ms, row.product, row.quantity))
    for row in await _rows(connection, _bindings(tenants, until_ms)):
        found[row.tenant].append(BindingFact(row.tenant, row.at_ms, row.event, row.product, row.person))
    for row in await _rows(connection, _meters(tenants, until_ms)):
        found[row.tenant].append(MeteredFact(row.tenant, row.at_ms, row.product, row.quantity, row.id))
    return found


async def _rows(connection: AsyncConnection, query: Select[Any]) -> Sequence[Row[Any]]:
    rows: Sequence[Row[Any]] = (await connection.execute(query)).all()
    return rows


def _tariffs(of: Collection[str], until_ms: int) -> Select[Any]:
    return (
        select(tariffs)
        .where(tariffs.c.tenant.in_(of), tariffs.c.at_ms < until_ms, tariffs.c.cancelled_ms.is_(None))
        .order_by(tariffs.c.at_ms, tariffs.c.id)
    )


def _bookings(of: Collection[str], until_ms: int) -> Select[Any]:
    return (
        select(bookings)
        .where(
            bookings.c.tenant.in_(of),
            bookings.c.effective_ms < until_ms,
            bookings.c.cancelled_ms.is_(None),
        )
        .order_by(bookings.c.effective_ms, bookings.c.id)
    )


def _bindings(of: Collection[str], until_ms: int) -> Select[Any]:
    """Select two lines a binding; where a person was unbound and bound at one instant, in that order."""
    of_tenant = bindings.c.tenant.in_(of)
    columns = (bindings.c.tenant, bindings.c.id, bindings.c.product, bindings.c.person)
    lines = union_all(
        select(*columns, bindings.c.bound_ms.label("at_ms"), literal("bound").label("event")).where(
            of_tenant
        ),
        select(*columns, bindings.c.unbound_ms, literal("unbound")).where(
            of_tenant, bindings.c.unbound_ms.is_not(None)
        ),
    ).subquery()
    return (
        select(lines)
        .where(lines.c.at_ms < until_ms)
        .order_by(lines.c.at_ms, lines.c.id, lines.c.event)  # of one binding "bound" sorts before "unbound"
    )


def _meters(of: Collection[str], until_ms: int) -> Select[Any]:
    return (
        select(meters)
        .where(meters.c.tenant.in_(of), meters.c.at_ms < until_ms)
        .order_by(meters.c.at_ms, meters.c.product, meters.c.id)
    )
