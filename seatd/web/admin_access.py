"""Keys of tenants and of the house, and the audit log."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from aiohttp import web
from msgspec import Struct

from seatd.accounts.records import AuditRow
from seatd.accounts.service import Accounts
from seatd.flows.services import effect
from seatd.model import Refusal, Scope
from seatd.web import admin_views as views
from seatd.web.admin_reading import Id, Instant, ListQuery, NoQuery, path_id, query
from seatd.web.auth import GRANT, SERVICES, for_admin, for_tenant, require_admin
from seatd.web.codec import Body, respond


class TenantKeyBody(Struct, forbid_unknown_fields=True):
    """A key of a tenant; `tenant_admin` is for the admin key to give."""

    scope: Literal["client", "tenant_admin"]
    expires_ms: Instant | None = None


class HouseKeyBody(Struct, forbid_unknown_fields=True):
    """A key of no tenant."""

    scope: Literal["admin", "billing"]
    expires_ms: Instant | None = None


class AuditQuery(ListQuery):
    """Which part of the log, of one tenant or of all."""

    tenant: Id | None = None


_TENANT_KEY: Final = Body(TenantKeyBody)
_HOUSE_KEY: Final = Body(HouseKeyBody)


async def _add_tenant_key(request: web.Request) -> web.Response:
    tenant, grant = path_id(request, "tenant"), request[GRANT]
    query(request, NoQuery)
    body = await _TENANT_KEY.read(request, json_only=True)
    scope = Scope(body.scope)
    if scope is Scope.TENANT_ADMIN:
        require_admin(grant)
    services = request.app[SERVICES]
    change = services.accounts.add_key(tenant, scope, expires_ms=body.expires_ms, actor=grant.id)
    done = await effect(services, tenant, change)
    return _shown_once(request, views.new_key(done.result) | {"projected": done.projected})


async def _tenant_keys(request: web.Request) -> web.Response:
    return await _listed(request, path_id(request, "tenant"))


async def _revoke_tenant_key(request: web.Request) -> web.Response:
    tenant, key_id = path_id(request, "tenant"), path_id(request, "key")
    query(request, NoQuery)
    services = request.app[SERVICES]
    change = services.accounts.revoke_key(tenant, key_id, actor=request[GRANT].id)
    return views.nothing(projected=(await effect(services, tenant, change)).projected)


async def _add_key(request: web.Request) -> web.Response:
    query(request, NoQuery)
    body = await _HOUSE_KEY.read(request, json_only=True)
    new = await request.app[SERVICES].accounts.add_key(
        None, Scope(body.scope), expires_ms=body.expires_ms, actor=request[GRANT].id
    )
    return _shown_once(request, views.new_key(new))


async def _keys(request: web.Request) -> web.Response:
    return await _listed(request, None)


async def _revoke_key(request: web.Request) -> web.Response:
    key_id, grant = path_id(request, "key"), request[GRANT]
    query(request, NoQuery)
    if key_id == grant.id:  # so that one admin key always stays
        raise Refusal("conflict", "A key cannot revoke itself: use another admin key.")
    await request.app[SERVICES].accounts.revoke_key(None, key_id, actor=grant.id)
    return views.nothing(projected=True)


async def _listed(request: web.Request, tenant: str | None) -> web.Response:
    asked = query(request, ListQuery)
    page = await request.app[SERVICES].accounts.keys(tenant, limit=asked.limit, after=asked.after)
    return views.listing(request, [views.key(item) for item in page.items], page.next)


def _shown_once(request: web.Request, view: dict[str, Any]) -> web.Response:
    answer = respond(request, view, 201)
    answer.headers["Cache-Control"] = "no-store"
    return answer


async def _audit(request: web.Request) -> web.Response:
    asked = query(request, AuditQuery)
    accounts = request.app[SERVICES].accounts
    if asked.tenant is not None:
        await accounts.tenant(asked.tenant)
    page = await accounts.audit_log(tenant=asked.tenant, limit=asked.limit, after=asked.after)
    names = await _names(accounts, page.items)
    rows = [views.audit_row(row, names.get(row.tenant or "", {}).get) for row in page.items]
    return views.listing(request, rows, page.next)


async def _names(accounts: Accounts, rows: tuple[AuditRow, ...]) -> Mapping[str, Mapping[str, str]]:
    """Give the names, by tenant and person, of those whom the rows tell of."""
    told: dict[str, set[str]] = {}
    for row in rows:
        if row.tenant is not None and "person" in row.detail:
            told.setdefault(row.tenant, set()).add(row.detail["person"])
    return {tenant: await accounts.names(tenant, persons) for tenant, persons in told.items()}


ROUTES: Final = (
    web.post("/v1/tenants/{tenant}/keys", for_tenant(_add_tenant_key)),
    web.get("/v1/tenants/{tenant}/keys", for_tenant(_tenant_keys)),
    web.delete("/v1/tenants/{tenant}/keys/{key}", for_tenant(_revoke_tenant_key)),
    web.post("/v1/keys", for_admin(_add_key)),
    web.get("/v1/keys", for_admin(_keys)),
    web.delete("/v1/keys/{key}", for_admin(_revoke_key)),
    web.get("/v1/audit", for_admin(_audit)),
)
