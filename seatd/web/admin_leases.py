"""Who sits now, and the word that ends a lease."""

from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta, Struct

from seatd.accounts.pages import number
from seatd.config import REVOKE_HOLD_MS_MAX
from seatd.flows.revocation import revoke
from seatd.web import admin_views as views
from seatd.web.admin_reading import ListQuery, path_id, query
from seatd.web.auth import GRANT, SERVICES, for_tenant, require_admin
from seatd.web.codec import respond


class RevokeQuery(Struct):
    """`force` frees the seat at once, though its client may still believe in it: the admin key only.

    For `hold_ms` the user may not sit again; left out, for as long as the server's setting says.
    """

    force: bool = False
    hold_ms: Annotated[int, Meta(ge=0, le=REVOKE_HOLD_MS_MAX)] | None = None


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
    asked = query(request, RevokeQuery)
    grant = request[GRANT]
    if asked.force:
        require_admin(grant)
    services = request.app[SERVICES]
    done = await revoke(services, tenant, lease, force=asked.force, hold_ms=asked.hold_ms, actor=grant.id)
    view = {
        "lease": done.lease,
        "user": done.user,
        "free_ms": done.free_ms,
        "forced": done.forced,
        "hold_ms": done.hold_ms,
    }
    return respond(request, view)


ROUTES: Final = (
    web.get("/v1/tenants/{tenant}/leases", for_tenant(_list)),
    web.delete("/v1/tenants/{tenant}/leases/{lease}", for_tenant(_revoke)),
)
