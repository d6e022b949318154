"""Who sits now, and the word that ends a lease."""

from typing import Final

from aiohttp import web
from msgspec import Struct

from seatd.accounts.pages import number
from seatd.flows.revocation import revoke
from seatd.web import admin_views as views
from seatd.web.admin_reading import ListQuery, path_id, query
from seatd.web.auth import GRANT, SERVICES, for_tenant, require_admin
from seatd.web.codec import respond


class RevokeQuery(Struct):
    """`force` frees the seat at once, though its client may still believe in it: the admin key only."""

    force: bool = False


async def _list(request: web.Request) -> web.Response:
    tenant = path_id(request, "tenant")
    asked = query(request, ListQuery)
    start = number(asked.after)
    services = request.app[SERVICES]
    await services.accounts.tenant(tenant)
    rows, following = await services.seats.sitting(tenant, start, asked.limit)
    return views.listing(request, [views.sitting(row) for row in rows], following)


async def _revoke(request: web.Request) -> web.Response:
    tenant, lease = path_id(request, "tenant"), path_id(request, "lease")
    force = query(request, RevokeQuery).force
    grant = request[GRANT]
    if force:
        require_admin(grant)
    done = await revoke(request.app[SERVICES], tenant, lease, force=force, actor=grant.id)
    view = {"lease": done.lease, "user": done.user, "free_ms": done.free_ms, "forced": done.forced}
    return respond(request, view)


ROUTES: Final = (
    web.get("/v1/tenants/{tenant}/leases", for_tenant(_list)),
    web.delete("/v1/tenants/{tenant}/leases/{lease}", for_tenant(_revoke)),
)
