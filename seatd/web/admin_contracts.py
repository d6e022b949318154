"""What a tenant ordered and reported: bookings, bindings, metered quantities."""

from typing import Annotated, Final, Literal

from aiohttp import web
from msgspec import Meta, Struct

from seatd.flows.revocation import unbind
from seatd.flows.services import effect
from seatd.web import admin_views as views
from seatd.web.admin_reading import Id, Instant, ListQuery, NoQuery, Quantity, path_id, query
from seatd.web.auth import GRANT, SERVICES, for_admin, for_tenant
from seatd.web.codec import Body, respond


class BookingBody(Struct, forbid_unknown_fields=True):
    """An absolute quantity of a product; `effective` left out: more now, less at the next month."""

    product: Id
    quantity: Quantity
    effective: Literal["now", "next_month"] | None = None


class MeterBody(Struct, forbid_unknown_fields=True):
    """A quantity to be counted once an id: decimal text, or an integer."""

    product: Id
    quantity: Annotated[str, Meta(max_length=32)] | Annotated[int, Meta(ge=0, le=999_999_999_999)]
    id: Id
    at_ms: Instant | None = None


_BOOK: Final = Body(BookingBody)
_METER: Final = Body(MeterBody)


async def _book(request: web.Request) -> web.Response:
    tenant = path_id(request, "tenant")
    query(request, NoQuery)
    body = await _BOOK.read(request, json_only=True)
    services = request.app[SERVICES]
    change = services.accounts.book(
        tenant, body.product, body.quantity, effective=body.effective, actor=request[GRANT].id
    )
    done = await effect(services, tenant, change)
    view = views.decision(done.result) | {"projected": done.projected}
    return respond(request, view, 201 if done.result.changed else 200)


async def _bookings(request: web.Request) -> web.Response:
    tenant = path_id(request, "tenant")
    asked = query(request, ListQuery)
    page = await request.app[SERVICES].accounts.bookings(tenant, limit=asked.limit, after=asked.after)
    return views.listing(request, [views.booking(item) for item in page.items], page.next)


async def _bind(request: web.Request) -> web.Response:
    tenant, product, user = (path_id(request, name) for name in ("tenant", "product", "user"))
    query(request, NoQuery)
    services = request.app[SERVICES]
    change = services.accounts.bind(tenant, product, user, actor=request[GRANT].id)
    done = await effect(services, tenant, change)
    view = {"product": product, "user": user, "projected": done.projected}
    return respond(request, view, 201 if done.result else 200)


async def _unbind(request: web.Request) -> web.Response:
    tenant, product, user = (path_id(request, name) for name in ("tenant", "product", "user"))
    query(request, NoQuery)
    done = await unbind(request.app[SERVICES], tenant, product, user, actor=request[GRANT].id)
    return views.nothing(projected=done.projected)


async def _bindings(request: web.Request) -> web.Response:
    tenant, product = (path_id(request, name) for name in ("tenant", "product"))
    asked = query(request, ListQuery)
    page = await request.app[SERVICES].accounts.bindings(
        tenant, product, limit=asked.limit, after=asked.after
    )
    return views.listing(request, [views.binding(item) for item in page.items], page.next)


async def _meter(request: web.Request) -> web.Response:
    tenant = path_id(request, "tenant")
    query(request, NoQuery)
    body = await _METER.read(request, json_only=True)
    metered = await request.app[SERVICES].accounts.meter(
        tenant, body.product, str(body.quantity), body.id, at_ms=body.at_ms, actor=request[GRANT].id
    )
    return respond(request, views.metered(metered), 201 if metered.created else 200)


ROUTES: Final = (
    web.post("/v1/tenants/{tenant}/bookings", for_tenant(_book)),
    web.get("/v1/tenants/{tenant}/bookings", for_tenant(_bookings)),
    web.put("/v1/tenants/{tenant}/bindings/{product}/{user}", for_tenant(_bind)),
    web.delete("/v1/tenants/{tenant}/bindings/{product}/{user}", for_tenant(_unbind)),
    web.get("/v1/tenants/{tenant}/bindings/{product}", for_tenant(_bindings)),
    web.post("/v1/tenants/{tenant}/meter", for_admin(_meter)),
)
