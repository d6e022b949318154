"""Who is named for what: a binding of a user to a product, over a span of time.

Decides the limit of a product: Agent seats are limited by their booking from the start (none booked: none
named), any other product only where a booking of it stands.  A scheduled decrease limits already now: what is
named today would otherwise not fit when it takes effect.  Users stand here by their person id.
"""

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts import people
from seatd.accounts.changes import Change
from seatd.accounts.records import Binding
from seatd.database.schema import bindings, bookings
from seatd.database.schema import people as people_table
from seatd.model import AGENT_PRODUCT, Refusal


async def bind(change: Change, product: str, user: str) -> bool:
    """Name `user` for `product` from now; false where that stood already.

    Raises `Refusal("no_booking_left")` with `product, quantity, bindings`.
    """
    person = await people.person_of(change.connection, change.tenant, user)
    if await _standing(change, product, person) is not None:
        return False
    await _room(change, product)
    await change.connection.execute(
        insert(bindings).values(tenant=change.tenant, product=product, person=person, bound_ms=change.now_ms)
    )
    change.record("binding.bind", {"product": product, "person": person})
    return True


async def unbind(change: Change, product: str, user: str) -> bool:
    """End the binding of `user` to `product` now; false where none stood."""
    person = await people.known(change.connection, change.tenant, user)
    binding = None if person is None else await _standing(change, product, person)
    if binding is None:
        return False
    await change.connection.execute(
        update(bindings).where(bindings.c.id == binding).values(unbound_ms=change.now_ms)
    )
    change.record("binding.unbind", {"product": product, "person": person})
    return True


async def unbind_all(change: Change, person: str) -> int:
    """End every binding of a person now, and give their number."""
    result = await change.connection.execute(
        update(bindings)
        .where(
            bindings.c.tenant == change.tenant,
            bindings.c.person == person,
            bindings.c.unbound_ms.is_(None),
        )
        .values(unbound_ms=change.now_ms)
    )
    return result.rowcount


async def _standing(change: Change, product: str, person: str) -> int | None:
    query = select(bindings.c.id).where(
        bindings.c.tenant == change.tenant,
        bindings.c.product == product,
        bindings.c.person == person,
        bindings.c.unbound_ms.is_(None),
    )
    return (await change.connection.execute(query)).scalar_one_or_none()


async def _room(change: Change, product: str) -> None:
    limit = await _limit(change, product)
    bound = await count(change.connection, change.tenant, product)
    if limit is not None and bound >= limit:
        raise Refusal(
            "no_booking_left",
            f"{bound} users are named for {product}, and {limit} are booked.",
            product=product,
            quantity=limit,
            bindings=bound,
        )


async def _limit(change: Change, product: str) -> int | None:
    """Give the most users that may be named: the least of what is booked now and what is scheduled."""
    query = (
        select(bookings.c.quantity, bookings.c.effective_ms)
        .where(
            bookings.c.tenant == change.tenant,
            bookings.c.product == product,
            bookings.c.cancelled_ms.is_(None),
        )
        .order_by(bookings.c.effective_ms, bookings.c.id)
    )
    booked: int | None = 0 if product == AGENT_PRODUCT else None
    scheduled: list[int] = []
    for row in await change.connection.execute(query):
        if row.effective_ms <= change.now_ms:
            booked = row.quantity
        else:
            scheduled.append(row.quantity)
    return min([*scheduled, *([] if booked is None else [booked])], default=None)


async def count(connection: AsyncConnection, tenant: str, product: str) -> int:
    """Count the users who are named for a product."""
    query = (
        select(func.count())
        .select_from(bindings)
        .where(bindings.c.tenant == tenant, bindings.c.product == product, bindings.c.unbound_ms.is_(None))
    )
    return (await connection.execute(query)).scalar_one()


async def persons_since(connection: AsyncConnection, tenant: str, since_ms: int) -> set[str]:
    """Give the ids of those who are named for something, or were at `since_ms` or later."""
    row = bindings.c
    later = or_(row.unbound_ms.is_(None), row.unbound_ms >= since_ms)
    query = select(row.person).distinct().where(row.tenant == tenant, later)
    return set((await connection.execute(query)).scalars())


async def listed(
    connection: AsyncConnection, tenant: str, product: str, *, after: str, limit: int
) -> tuple[Binding, ...]:
    """List who is named for a product, by name, those after the name `after`."""
    query = (
        select(people_table.c.name, bindings.c.person, bindings.c.bound_ms)
        .join(
            people_table,
            (people_table.c.tenant == bindings.c.tenant) & (people_table.c.person == bindings.c.person),
        )
        .where(
            bindings.c.tenant == tenant,
            bindings.c.product == product,
            bindings.c.unbound_ms.is_(None),
            people_table.c.name > after,
        )
        .order_by(people_table.c.name)
        .limit(limit)
    )
    rows = await connection.execute(query)
    return tuple(Binding(product, row.name, row.person, row.bound_ms) for row in rows)
