"""Tenants and their tariffs: make, change, list, show, switch."""

from typing import Final, Literal

from aiohttp import web
from msgspec import UNSET, Struct, UnsetType, structs

from seatd.accounts.records import TenantChange, TenantFields
from seatd.flows.services import Effected, effect
from seatd.flows.tenancy import seen, tenant_now, tenants_now
from seatd.model import Tariff
from seatd.web import admin_views as views
from seatd.web.admin_reading import Id, Instant, Labels, ListQuery, NoQuery, Quantity, path_id, query
from seatd.web.auth import GRANT, SERVICES, for_admin, for_tenant
from seatd.web.codec import Body, respond


class TenantBody(Struct, forbid_unknown_fields=True):
    """What a PUT may say of a tenant; a field left out stays."""

    name: str | UnsetType = UNSET
    customer: Id | UnsetType = UNSET
    tariff: Literal["team", "agent"] | UnsetType | None = UNSET
    seats: Quantity | UnsetType = UNSET
    lease_ttl_ms: int | UnsetType = UNSET
    trial_until_ms: Instant | UnsetType | None = UNSET
    suspended: bool | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET

    def fields(self) -> TenantFields:
        """Give what was said."""
        said = {name: value for name, value in structs.asdict(self).items() if value is not UNSET}
        fields: TenantFields = {**said}  # type: ignore[typeddict-item]  # the names are the same
        if self.tariff is not UNSET:
            fields["tariff"] = Tariff(self.tariff) if self.tariff else None
        return fields


class OwnBody(Struct, forbid_unknown_fields=True):
    """What a tenant may change of itself."""

    name: str | None = None
    labels: Labels | None = None


class SwitchBody(Struct, forbid_unknown_fields=True):
    """The tariff to switch to, and how many seats of it to book."""

    tariff: Literal["team", "agent"]
    seats: Quantity | None = None


_PUT: Final = Body(TenantBody)
_PATCH: Final = Body(OwnBody)
_SWITCH: Final = Body(SwitchBody)


async def _put(request: web.Request) -> web.Response:
    tenant = path_id(request, "tenant")
    query(request, NoQuery)
    body = await _PUT.read(request, json_only=True)
    services = request.app[SERVICES]
    change = services.accounts.put_tenant(tenant, body.fields(), actor=request[GRANT].id)
    return await _changed(request, await effect(services, tenant, change))


async def _patch(request: web.Request) -> web.Response:
    tenant = path_id(request, "tenant")
    query(request, NoQuery)
    body = await _PATCH.read(request, json_only=True)
    services = request.app[SERVICES]
    change = services.accounts.patch_tenant(
        tenant, name=body.name, labels=body.labels, actor=request[GRANT].id
    )
    return await _changed(request, await effect(services, tenant, change))


async def _switch(request: web.Request) -> web.Response:
    tenant = path_id(request, "tenant")
    query(request, NoQuery)
    body = await _SWITCH.read(request, json_only=True)
    services = request.app[SERVICES]
    change = services.accounts.switch_tariff(
        tenant, Tariff(body.tariff), seats=body.seats, actor=request[GRANT].id
    )
    return await _changed(request, await effect(services, tenant, change))


async def _changed(request: web.Request, done: Effected[TenantChange]) -> web.Response:
    change = done.result
    view = views.tenant(await seen(request.app[SERVICES], change.tenant))
    if change.decision is not None:
        view["booking"] = views.decision(change.decision)
    view["projected"] = done.projected
    return respond(request, view, 201 if change.created else 200)


async def _show(request: web.Request) -> web.Response:
    tenant = path_id(request, "tenant")
    query(request, NoQuery)
    return respond(request, views.tenant(await tenant_now(request.app[SERVICES], tenant)))


async def _list(request: web.Request) -> web.Response:
    asked = query(request, ListQuery)
    page = await tenants_now(request.app[SERVICES], limit=asked.limit, after=asked.after)
    return views.listing(request, [views.tenant(item) for item in page.items], page.next)


ROUTES: Final = (
    web.get("/v1/tenants", for_admin(_list)),
    web.put("/v1/tenants/{tenant}", for_admin(_put)),
    web.patch("/v1/tenants/{tenant}", for_tenant(_patch)),
    web.get("/v1/tenants/{tenant}", for_tenant(_show)),
    web.post("/v1/tenants/{tenant}/tariff", for_tenant(_switch)),
)
