"""How many of a product are ordered: absolute quantities, each in force from an instant.

Decides when a decision takes effect: more takes effect now, less at the first instant of the next month, unless
the order says otherwise.  A product has at most one scheduled booking; any later decision replaces it.  A booking,
standing or scheduled, is never below the bindings that stand.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts import bindings
from seatd.accounts.changes import Change
from seatd.accounts.records import Booking, BookingDecision, BookingState
from seatd.database.schema import bookings
from seatd.model import Refusal, invalid

Effective = Literal["now", "next_month"]

QUANTITY_MAX: Final = 1_000_000_000


def next_month_ms(at_ms: int, zone: str) -> int:
    """Give the first instant whose local date in `zone` is the first of the month after `at_ms`."""
    local = datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(ZoneInfo(zone))
    year, month = (local.year + 1, 1) if local.month == 12 else (local.year, local.month + 1)
    # Where midnight does not exist or comes twice, fold=0 names the first instant of the date.
    first = datetime(year, month, 1, tzinfo=ZoneInfo(zone))
    return int(first.timestamp()) * 1000


async def book(
    change: Change, product: str, quantity: int, *, effective: Effective | None, zone: str
) -> BookingDecision:
    """Let `quantity` of `product` be ordered; `zone` is where months begin.

    Raises `Refusal("bindings_exceed")` with `product, quantity, bindings`.
    """
    if not 0 <= quantity <= QUANTITY_MAX:
        raise invalid("quantity", f"must be from 0 to {QUANTITY_MAX}")
    current, scheduled = await standing(change.connection, change.tenant, product, change.now_ms)
    before = current.quantity if current else 0
    at_once = quantity >= before if effective is None else effective == "now"
    wanted_ms = change.now_ms if at_once else next_month_ms(change.now_ms, zone)
    same = _already(current, scheduled, quantity, wanted_ms, at_once=at_once)
    if same is not None:
        return BookingDecision(same, None, changed=False)
    await _fits(change, product, quantity)
    # Where only a scheduled one has to go, what is in force says the quantity already.
    booking = current if current and current.quantity == quantity else None
    if booking is None:
        booking = await _add(change, product, quantity, wanted_ms)
    replaced = await _cancel(change, scheduled) if scheduled else None
    change.record("booking.decide", _detail(booking, replaced))
    return BookingDecision(booking, replaced, changed=True)


def _detail(booking: Booking, replaced: Booking | None) -> dict[str, Any]:
    return {
        "booking": booking.id,
        "product": booking.product,
        "quantity": booking.quantity,
        "effective_ms": booking.effective_ms,
        "replaced": replaced.id if replaced else None,
    }


def _already(
    current: Booking | None, scheduled: Booking | None, quantity: int, wanted_ms: int, *, at_once: bool
) -> Booking | None:
    """Give the booking that says what is wanted, where nothing has to change."""
    if at_once:
        return current if scheduled is None and current and current.quantity == quantity else None
    if scheduled is None:
        return current if current and current.quantity == quantity else None
    return scheduled if (scheduled.quantity, scheduled.effective_ms) == (quantity, wanted_ms) else None


async def _add(change: Change, product: str, quantity: int, effective_ms: int) -> Booking:
    result = await change.connection.execute(
        insert(bookings)
        .values(
            tenant=change.tenant,
            product=product,
            quantity=quantity,
            effective_ms=effective_ms,
            decided_ms=change.now_ms,
        )
        .returning(bookings)
    )
    if effective_ms == change.now_ms:
        return _record(result.one(), "in_force")
    await change.schedule(effective_ms)
    return _record(result.one(), "scheduled")


async def _cancel(change: Change, booking: Booking) -> Booking:
    await change.connection.execute(
        update(bookings).where(bookings.c.id == booking.id).values(cancelled_ms=change.now_ms)
    )
    return replace(booking, state="cancelled", cancelled_ms=change.now_ms)


async def _fits(change: Change, product: str, quantity: int) -> None:
    bound = await bindings.count(change.connection, change.tenant, product)
    if bound > quantity:
        raise Refusal(
            "bindings_exceed",
            f"{bound} users are named for {product}: unbind {bound - quantity} first.",
            product=product,
            quantity=quantity,
            bindings=bound,
        )


async def standing(
    connection: AsyncConnection, tenant: str, product: str, at_ms: int
) -> tuple[Booking | None, Booking | None]:
    """Give the booking of a product in force at `at_ms`, and the one that is scheduled after."""
    rows = (await in_force(connection, [tenant], at_ms)).get(tenant, ())
    mine = [booking for booking in rows if booking.product == product]
    current = next((booking for booking in mine if booking.state == "in_force"), None)
    return current, next((booking for booking in mine if booking.state == "scheduled"), None)


async def in_force(
    connection: AsyncConnection, ids: Iterable[str], at_ms: int
) -> dict[str, tuple[Booking, ...]]:
    """Give each tenant's bookings that are in force at `at_ms` or scheduled after, sorted by product."""
    query = (
        select(bookings)
        .where(bookings.c.tenant.in_(list(ids)), bookings.c.cancelled_ms.is_(None))
        .order_by(bookings.c.tenant, bookings.c.product, bookings.c.effective_ms, bookings.c.id)
    )
    found: dict[str, dict[tuple[str, bool], Booking]] = {}
    for row in await connection.execute(query):
        later = row.effective_ms > at_ms
        of_tenant = found.setdefault(row.tenant, {})
        of_tenant[row.product, later] = _record(row, "scheduled" if later else "in_force")
    return {tenant: tuple(by_product.values()) for tenant, by_product in found.items()}


async def history(
    connection: AsyncConnection, tenant: str, at_ms: int, *, after: int, limit: int
) -> tuple[Booking, ...]:
    """List a tenant's bookings in the order of decision, those with an id above `after`."""
    query = (
        select(bookings)
        .where(bookings.c.tenant == tenant, bookings.c.id > after)
        .order_by(bookings.c.id)
        .limit(limit)
    )
    rows = (await connection.execute(query)).all()
    now = {booking.id for booking in (await in_force(connection, [tenant], at_ms)).get(tenant, ())}
    return tuple(_record(row, _state(row, at_ms, now)) for row in rows)


def _state(row: Row[Any], at_ms: int, now: set[int]) -> BookingState:
    if row.cancelled_ms is not None:
        return "cancelled"
    if row.effective_ms > at_ms:
        return "scheduled"
    return "in_force" if row.id in now else "past"


def _record(row: Row[Any], state: BookingState) -> Booking:
    return Booking(
        id=row.id,
        product=row.product,
        quantity=row.quantity,
        effective_ms=row.effective_ms,
        decided_ms=row.decided_ms,
        cancelled_ms=row.cancelled_ms,
        state=state,
    )


def quantity_of(standing_bookings: Sequence[Booking], product: str) -> int:
    """Give the quantity of `product` in force among these bookings, 0 without one."""
    return next((b.quantity for b in standing_bookings if b.product == product and b.state == "in_force"), 0)
