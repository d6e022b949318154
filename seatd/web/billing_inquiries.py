"""Questions about a month, on the internal listener: its explanation, advice, its peak, what-if.  Decode, call, encode.

Opened by the admin key or one of scope `billing`.  Money is decimal text, never a JSON number.
"""

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta, Struct, field

from seatd.billing.advice import Advice
from seatd.flows.inquiries import MONTHS_MAX, Explained, Inquiries, Peak, Supposed, Supposition
from seatd.model import Tariff
from seatd.web.admin_reading import Id, NoQuery, Quantity, query
from seatd.web.auth import for_billing
from seatd.web.codec import Body, respond

INQUIRIES: Final = web.AppKey("inquiries", Inquiries)
_MONTH: Final = r"{month:\d{4}-\d{2}}"


class MaybeTenant(Struct):
    """One tenant, or all."""

    tenant: Id | None = None


class OneTenant(Struct):
    """Which tenant."""

    tenant: Id


class PeakQuery(Struct):
    """Which tenant, and whether people's names are wanted beside their ids."""

    tenant: Id
    names: bool = False


class WhatIf(Struct, forbid_unknown_fields=True):
    """Which months, of whom, and what to suppose."""

    first: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}\Z")]
    months: Annotated[int, Meta(ge=1, le=MONTHS_MAX)] = 3
    tenant: Id | None = None
    price_list: str | None = None
    quantities: dict[Id, Quantity] = field(default_factory=dict)
    tariff: Tariff | None = None


_WHAT_IF: Final = Body(WhatIf)


async def _explanation(request: web.Request) -> web.Response:
    asked = query(request, MaybeTenant)
    told = await request.app[INQUIRIES].explained(request.match_info["month"], asked.tenant)
    price_list = told.opened.price_list
    body = {
        "period": told.opened.month.period,
        "rated_until_ms": told.opened.until_ms,
        "compared_with": told.differs_from,
        "price_list": price_list.version,
        "currency": price_list.currency,
        "tenants": [_explained(each) for each in told.tenants],
    }
    return respond(request, body)


def _explained(told: Explained) -> dict[str, Any]:
    return {
        "tenant": told.tenant,
        "to_date": f"{told.to_date:.2f}",
        "projected": f"{told.projected:.2f}",
        "before": f"{told.before:.2f}",
        "differences": [
            {
                "product": each.product,
                "before": f"{each.before:.2f}",
                "projected": f"{each.after:.2f}",
                "difference": f"{each.difference:.2f}",
                "sentence": each.sentence,
            }
            for each in told.differences
        ],
    }


async def _advice(request: web.Request) -> web.Response:
    asked = query(request, OneTenant)
    return respond(
        request, _advised(await request.app[INQUIRIES].advice(request.match_info["month"], asked.tenant))
    )


def _advised(advice: Advice) -> dict[str, Any]:
    return {
        "period": advice.month.period,
        "tenant": advice.tenant,
        "price_list": advice.price_list,
        "currency": advice.currency,
        "charged": advice.charged,
        "as_it_is": f"{advice.as_it_is:.2f}",
        "team": None if advice.team is None else f"{advice.team:.2f}",
        "agent": None if advice.agent is None else f"{advice.agent:.2f}",
        "break_even_users": advice.break_even_users,
        "users": advice.users,
        "peak": advice.demand.peak,
        "p95": advice.demand.p95,
        "logins": advice.demand.logins,
        "denied": advice.demand.denied,
        "seats": [
            {"seats": each.seats, "net": f"{each.net:.2f}", "refused": each.refused}
            for each in advice.numbers
        ],
    }


async def _peak(request: web.Request) -> web.Response:
    asked = query(request, PeakQuery)
    month = request.match_info["month"]
    peak = await request.app[INQUIRIES].peak(month, asked.tenant, named=asked.names)
    return respond(request, {"period": month, "tenant": asked.tenant, **_witnessed(peak)})


def _witnessed(peak: Peak) -> dict[str, Any]:
    witnesses = []
    for each in peak.witnesses:
        name = {"name": peak.names[each.user]} if each.user in peak.names else {}
        witnesses.append({"user": each.user, "since_ms": each.since_ms, **name})
    return {"peak": len(witnesses), "at_ms": peak.at_ms, "witnesses": witnesses}


async def _what_if(request: web.Request) -> web.Response:
    query(request, NoQuery)
    asked = await _WHAT_IF.read(request, json_only=True)
    supposition = Supposition(asked.price_list, asked.quantities, asked.tariff)
    items: list[dict[str, Any]] = []
    async for lot in request.app[INQUIRIES].what_if(asked.first, asked.months, asked.tenant, supposition):
        items += [_supposed(each) for each in lot]
    return respond(request, {"items": items})


def _supposed(each: Supposed) -> dict[str, Any]:
    return {
        "period": each.period,
        "tenant": each.tenant,
        "currency": each.currency,
        "net": f"{each.net:.2f}",
        "supposed_net": f"{each.supposed_net:.2f}",
        "supposed_currency": each.supposed_currency,
        "refused": each.refused,
    }


def add_inquiry_routes(app: web.Application, inquiries: Inquiries) -> None:
    """Mount the questions about months; the application has `auth.SERVICES` set, and the `problems` middleware."""
    app[INQUIRIES] = inquiries
    at = f"/v1/billing/{_MONTH}"
    app.add_routes(
        [
            web.get(f"{at}/explanation", for_billing(_explanation)),
            web.get(f"{at}/advice", for_billing(_advice)),
            web.get(f"{at}/peak", for_billing(_peak)),
            web.post("/v1/billing/what-if", for_billing(_what_if)),
        ]
    )
