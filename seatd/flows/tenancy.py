"""A tenant as it stands: what SQL says of it, and how many sit there now."""

import asyncio
from dataclasses import dataclass

from seatd.accounts.records import Page, Tenant
from seatd.flows.services import AWAY, Services
from seatd.model import Refusal


@dataclass(frozen=True, slots=True)
class TenantNow:
    """A tenant, the seats in use and the users who wait for one (None: the seat store is away)."""

    tenant: Tenant
    in_use: int | None
    waiting: int | None


async def tenant_now(services: Services, tenant: str) -> TenantNow:
    """Give a tenant; raises `Refusal` `not_found`."""
    return await seen(services, await services.accounts.tenant(tenant))


async def tenants_now(services: Services, *, limit: int, after: str | None) -> Page[TenantNow]:
    """List tenants by id; the seat plane is asked for all of them in few batches."""
    page = await services.accounts.tenants(limit=limit, after=after)
    return Page(tuple(await asyncio.gather(*(seen(services, item) for item in page.items))), page.next)


async def seen(services: Services, tenant: Tenant) -> TenantNow:
    """Add to a tenant how many sit there."""
    try:
        fullness = await services.seats.fullness(tenant.id)
    except Refusal as refusal:
        if refusal.code not in AWAY:
            raise
        return TenantNow(tenant, None, None)
    return TenantNow(tenant, fullness.in_use, fullness.waiting)
