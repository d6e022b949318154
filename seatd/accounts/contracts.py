"""Use cases of the contract: tenants, tariffs, bookings, bindings, people, reported quantities."""

from collections.abc import Iterable, Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts import bindings, bookings, meters, people, tenants
from seatd.accounts.base import UseCases, check_ids
from seatd.accounts.bookings import Effective
from seatd.accounts.changes import Change, begin, changing, unknown_tenant
from seatd.accounts.pages import LIMIT_DEFAULT, number, one_more, page
from seatd.accounts.records import (
    Binding,
    Booking,
    BookingDecision,
    Metered,
    Page,
    Tenant,
    TenantChange,
    TenantFields,
)
from seatd.database.engine import reading, writing
from seatd.model import Tariff, invalid


class Contracts(UseCases):
    """What a tenant has ordered, and who of it is named for what."""

    # Tenants

    async def put_tenant(self, tenant: str, fields: TenantFields, *, actor: str) -> TenantChange:
        """Make a tenant, or make it what `fields` say; fields left out stay, `name` makes a new one.

        Raises what `tenants.apply` raises.
        """
        check_ids(tenant=tenant)
        zone = await self.zone_of(self.clock())
        async with writing(self.engine) as connection:
            created = await self._made(connection, tenant, fields)
            change = await begin(connection, self.clock, tenant, actor)
            if created:
                change.record("tenant.create", {"name": fields["name"]})
            decision = await tenants.apply(change, fields, zone=zone)
            await change.finish()
            return await self._result(change, created=created, decision=decision)

    async def _made(self, connection: AsyncConnection, tenant: str, fields: TenantFields) -> bool:
        if await tenants.exists(connection, tenant):
            return False
        if "name" not in fields:
            raise invalid("name", "a new tenant needs one")
        now_ms = self.clock()
        tenants.validate(fields, None, now_ms)
        return await tenants.make(connection, tenant, fields["name"], now_ms)

    async def patch_tenant(
        self, tenant: str, *, name: str | None = None, labels: Mapping[str, str] | None = None, actor: str
    ) -> TenantChange:
        """Change what a tenant may change of itself; None stays."""
        fields: TenantFields = {}
        if name is not None:
            fields["name"] = name
        if labels is not None:
            fields["labels"] = labels
        return await self._changed(tenant, fields, actor)

    async def switch_tariff(
        self, tenant: str, tariff: Tariff, *, seats: int | None = None, actor: str
    ) -> TenantChange:
        """Switch the tariff now, and book `seats` of its product; running leases are a flow's matter."""
        fields: TenantFields = {"tariff": tariff}
        if seats is not None:
            fields["seats"] = seats
        return await self._changed(tenant, fields, actor)

    async def _changed(self, tenant: str, fields: TenantFields, actor: str) -> TenantChange:
        zone = await self.zone_of(self.clock())
        async with writing(self.engine) as connection:
            change = await begin(connection, self.clock, tenant, actor)
            decision = await tenants.apply(change, fields, zone=zone)
            await change.finish()
            return await self._result(change, created=False, decision=decision)

    async def _result(
        self, change: Change, *, created: bool, decision: BookingDecision | None
    ) -> TenantChange:
        tenant = await tenants.one(change.connection, change.tenant, change.now_ms)
        if tenant is None:  # its row is locked
            raise unknown_tenant(change.tenant)
        return TenantChange(tenant, created, change.changed, decision)

    async def tenant(self, tenant: str) -> Tenant:
        """Give a tenant as it stands."""
        async with reading(self.engine) as connection:
            found = await tenants.one(connection, tenant, self.clock())
        if found is None:
            raise unknown_tenant(tenant)
        return found

    async def tenants(self, *, limit: int = LIMIT_DEFAULT, after: str | None = None) -> Page[Tenant]:
        """List tenants by id."""
        async with reading(self.engine) as connection:
            found = await tenants.listed(connection, self.clock(), after=after or "", limit=one_more(limit))
        return page(found, limit, lambda item: item.id)

    # Bookings and bindings

    async def book(
        self, tenant: str, product: str, quantity: int, *, effective: Effective | None = None, actor: str
    ) -> BookingDecision:
        """Let an absolute quantity of a product be booked; raises also `bindings_exceed`.

        `effective` None: more takes effect now, less at the next month.
        """
        check_ids(product=product)
        zone = await self.zone_of(self.clock())
        async with changing(self.engine, self.clock, tenant, actor) as change:
            return await bookings.book(change, product, quantity, effective=effective, zone=zone)

    async def bookings(
        self, tenant: str, *, limit: int = LIMIT_DEFAULT, after: str | None = None
    ) -> Page[Booking]:
        """List all bookings that were ever decided, in that order, with what became of them."""
        async with reading(self.engine) as connection:
            found = await bookings.history(
                connection,
                tenant,
                await self.now_of(connection, tenant),
                after=number(after),
                limit=one_more(limit),
            )
        return page(found, limit, lambda item: str(item.id))

    async def bind(self, tenant: str, product: str, user: str, *, actor: str) -> bool:
        """Name a user for a product: true if new, false if it stood; raises also `no_booking_left`."""
        check_ids(product=product, user=user)
        async with changing(self.engine, self.clock, tenant, actor) as change:
            return await bindings.bind(change, product, user)

    async def unbind(self, tenant: str, product: str, user: str, *, actor: str) -> bool:
        """End a binding: false where none stood."""
        async with changing(self.engine, self.clock, tenant, actor) as change:
            return await bindings.unbind(change, product, user)

    async def bindings(
        self, tenant: str, product: str, *, limit: int = LIMIT_DEFAULT, after: str | None = None
    ) -> Page[Binding]:
        """List who is named for a product, by name."""
        async with reading(self.engine) as connection:
            await self.now_of(connection, tenant)
            found = await bindings.listed(
                connection, tenant, product, after=after or "", limit=one_more(limit)
            )
        return page(found, limit, lambda item: item.user)

    async def erase(self, tenant: str, user: str, *, actor: str) -> bool:
        """Unbind a user from everything and erase the name for good: false where it is not known."""
        async with changing(self.engine, self.clock, tenant, actor) as change:
            person = await people.known(change.connection, tenant, user)
            if person is None:
                return False
            unbound = await bindings.unbind_all(change, person)
            await people.forget(change.connection, tenant, person)
            change.record("person.erase", {"person": person, "unbound": unbound})
            return True

    async def names(self, tenant: str, persons: Iterable[str]) -> dict[str, str]:
        """Give the names of persons; those that were erased are left out."""
        async with reading(self.engine) as connection:
            return await people.names_of(connection, tenant, persons)

    async def meter(
        self,
        tenant: str,
        product: str,
        quantity: str,
        meter_id: str,
        *,
        at_ms: int | None = None,
        actor: str,
    ) -> Metered:
        """Report a quantity (decimal text), once an id within a product.

        Raises also `conflict` where the id was used with other content.
        """
        check_ids(product=product, id=meter_id)
        async with changing(self.engine, self.clock, tenant, actor) as change:
            metered = await meters.report(
                change.connection,
                tenant,
                product=product,
                meter_id=meter_id,
                quantity=quantity,
                at_ms=at_ms,
                now_ms=change.now_ms,
            )
            if metered.created:
                detail = {
                    "product": product,
                    "id": meter_id,
                    "quantity": metered.quantity,
                    "at_ms": metered.at_ms,
                }
                change.record("meter.report", detail, projects=False)
            return metered
