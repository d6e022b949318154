"""Tenants as they stand, and what a PUT, a PATCH or a switch makes of them.

Decides what may be said of a tenant and what a field that was left out means: it stays.  What is asked for and
holds already writes nothing.  Trials: a tariff set while `trial_until_ms` is to come is on trial until then (see
tariffs.py); the same PUT sent again after the trial ran out does not take it up, a PUT or a switch that names the
tariff alone does.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts import bookings, tariffs
from seatd.accounts.changes import Change
from seatd.accounts.records import Booking, BookingDecision, Tenant, TenantFields
from seatd.accounts.tariffs import TariffLine
from seatd.database.engine import inserting
from seatd.database.schema import bindings as bindings_table
from seatd.database.schema import tenants
from seatd.model import LABELS_MAX, TTL_MS_DEFAULT, TTL_MS_MAX, TTL_MS_MIN, Tariff, invalid, is_id

TEXT_MAX: Final = 200
_COLUMNS: Final = ("name", "customer", "labels", "lease_ttl_ms", "trial_until_ms")


async def exists(connection: AsyncConnection, tenant: str) -> bool:
    """Tell whether there is such a tenant."""
    found = await connection.execute(select(tenants.c.id).where(tenants.c.id == tenant))
    return found.one_or_none() is not None


async def make(connection: AsyncConnection, tenant: str, name: str, now_ms: int) -> bool:
    """Make a tenant with every field at its default; false where another made it meanwhile."""
    result = await connection.execute(
        inserting(connection, tenants)
        .values(
            id=tenant,
            name=name,
            customer=tenant,
            labels={},
            lease_ttl_ms=TTL_MS_DEFAULT,
            longest_ttl_ms=TTL_MS_DEFAULT,
            policy_version=0,
            created_ms=now_ms,
            changed_ms=now_ms,
        )
        .on_conflict_do_nothing(index_elements=["id"])
    )
    return bool(result.rowcount)


async def apply(change: Change, fields: TenantFields, *, zone: str) -> BookingDecision | None:
    """Make the tenant what `fields` say, and give what became of `seats`.

    Raises `Refusal`: `invalid_request` for a value out of bounds, and what bookings raise.
    """
    validate(fields, change.row, change.now_ms)
    await _set_columns(change, fields)
    await _set_tariff(change, fields)
    if "seats" not in fields:
        return None
    tariff = fields.get("tariff") or await _tariff_in_force(change)
    if tariff is None:
        raise invalid("seats", "the tenant has no tariff to book seats of")
    return await bookings.book(change, tariff.product, fields["seats"], effective=None, zone=zone)


async def _tariff_in_force(change: Change) -> Tariff | None:
    line = (await tariffs.in_force(change.connection, [change.tenant], change.now_ms)).get(change.tenant)
    return line.tariff if line else None


async def _set_columns(change: Change, fields: TenantFields) -> None:
    before = change.row._mapping  # noqa: SLF001 - the public name of a row as a mapping
    wanted: dict[str, Any] = {key: value for key, value in fields.items() if key in _COLUMNS}
    suspended = fields.get("suspended")
    if suspended is not None and suspended != (before["suspended_since_ms"] is not None):
        wanted["suspended_since_ms"] = change.now_ms if suspended else None
    changed = {key: value for key, value in wanted.items() if before[key] != value}
    if not changed:
        return
    implied: dict[str, Any] = {}
    unheard = before["policy_version"] == 0  # no lease was ever granted under the ttl that stands
    if unheard or changed.get("lease_ttl_ms", 0) > before["longest_ttl_ms"]:  # kept before it is projected
        implied = {"longest_ttl_ms": changed.get("lease_ttl_ms", before["longest_ttl_ms"])}
    if "lease_ttl_ms" in changed:
        implied["shorter_since_ms"] = None
    if changed.get("suspended_since_ms"):
        implied |= _ended(change, "suspended")
    await change.connection.execute(
        update(tenants).where(tenants.c.id == change.tenant).values(changed | implied)
    )
    change.record("tenant.change", changed)


def _ended(change: Change, reason: str) -> dict[str, Any]:
    """Say that this change ends every lease of the tenant: receipts of earlier versions are void from here on."""
    return {"ended_version": change.row.policy_version + 1, "ended_reason": reason}


async def _set_tariff(change: Change, fields: TenantFields) -> None:
    stored = change.row.trial_until_ms
    until = fields.get("trial_until_ms", stored)
    until = until if until is not None and until > change.now_ms else None
    line = (await tariffs.in_force(change.connection, [change.tenant], change.now_ms)).get(change.tenant)
    ran_out = line is not None and line.tariff is None and line.trial
    last = await tariffs.last_tariff(change.connection, change.tenant, change.now_ms) if ran_out else None
    if "tariff" in fields:
        wanted = fields["tariff"]
        if ran_out and wanted == last and until is None and fields.get("trial_until_ms") == stored:
            return  # the same trial said again, after it ran out
    elif fields.get("trial_until_ms", stored) != stored:
        # A new end for a trial: of the tariff that stands, or of the one whose trial ran out.
        wanted = (line.tariff if line else None) or (last if until else None)
        if wanted is None:
            return
    else:
        return
    stands = line.tariff if line else None
    if await tariffs.settle(change, wanted, until):
        if ran_out or (stands is not None and wanted != stands):
            reason = "trial_expired" if ran_out else "tariff_switched" if wanted else "contract_ended"
            ended = update(tenants).where(tenants.c.id == change.tenant).values(_ended(change, reason))
            await change.connection.execute(ended)
        change.record("tariff.switch", {"tariff": wanted, "trial_until_ms": until if wanted else None})


def validate(fields: TenantFields, row: Row[Any] | None, now_ms: int) -> None:
    """Check every value against its bounds; raises `Refusal("invalid_request")` that names the first bad field."""
    for name in ("name", "customer"):
        if name in fields:
            _check_text(name, fields[name])
    if "customer" in fields and not is_id(fields["customer"]):
        raise invalid("customer", "is not an id")
    if not TTL_MS_MIN <= fields.get("lease_ttl_ms", TTL_MS_DEFAULT) <= TTL_MS_MAX:
        raise invalid("lease_ttl_ms", f"must be from {TTL_MS_MIN} to {TTL_MS_MAX}")
    _check_labels(fields.get("labels", {}))
    until = fields.get("trial_until_ms")
    if until is not None and until <= now_ms and (row is None or row.trial_until_ms != until):
        raise invalid("trial_until_ms", "must be to come")


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > LABELS_MAX:
        raise invalid("labels", f"at most {LABELS_MAX}")
    for key, value in labels.items():
        if not is_id(key):
            raise invalid("labels", "a label's name is an id")
        _check_text("labels", value)


def _check_text(field: str, text: str) -> None:
    if not 0 < len(text) <= TEXT_MAX or not text.isprintable():
        raise invalid(field, f"must be 1 to {TEXT_MAX} printable characters")


async def listed(connection: AsyncConnection, at_ms: int, *, after: str, limit: int) -> tuple[Tenant, ...]:
    """List tenants by id, those after the id `after`."""
    query = select(tenants).where(tenants.c.id > after).order_by(tenants.c.id).limit(limit)
    return await _records(connection, (await connection.execute(query)).all(), at_ms)


async def one(connection: AsyncConnection, tenant: str, at_ms: int) -> Tenant | None:
    """Give a tenant as it stands at `at_ms`, or at its latest change if that is later."""
    rows = (await connection.execute(select(tenants).where(tenants.c.id == tenant))).all()
    return next(iter(await _records(connection, rows, at_ms)), None)


async def _records(connection: AsyncConnection, rows: Sequence[Row[Any]], at_ms: int) -> tuple[Tenant, ...]:
    ids = [row.id for row in rows]
    at_ms = max([at_ms, *(row.changed_ms for row in rows)])
    lines = await tariffs.in_force(connection, ids, at_ms)
    booked = await bookings.in_force(connection, ids, at_ms)
    bound = await _bound(connection, ids)
    return tuple(
        _record(row, lines.get(row.id), booked.get(row.id, ()), bound.get(row.id, 0)) for row in rows
    )


async def _bound(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, int]:
    query = (
        select(bindings_table.c.tenant, func.count())
        .where(bindings_table.c.tenant.in_(list(ids)), bindings_table.c.unbound_ms.is_(None))
        .group_by(bindings_table.c.tenant)
    )
    return {row[0]: row[1] for row in await connection.execute(query)}


def _record(row: Row[Any], line: TariffLine | None, booked: tuple[Booking, ...], bound: int) -> Tenant:
    tariff = line.tariff if line else None
    return Tenant(
        id=row.id,
        name=row.name,
        customer=row.customer,
        labels=row.labels,
        tariff=tariff,
        tariff_since_ms=line.at_ms if line else row.created_ms,
        trial=tariff is not None and line is not None and line.trial,
        trial_until_ms=row.trial_until_ms,
        suspended_since_ms=row.suspended_since_ms,
        lease_ttl_ms=row.lease_ttl_ms,
        capacity=bookings.quantity_of(booked, tariff.product) if tariff else 0,
        bookings=booked,
        bindings=bound,
        policy_version=row.policy_version,
        created_ms=row.created_ms,
    )
