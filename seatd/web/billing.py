"""Billing routes of the internal listener: price lists, a month's preview, its files.  Decode, call, encode.

Opened by the admin key or one of scope `billing`.  Money is decimal text, never a JSON number.
"""

from dataclasses import asdict
from typing import Any, Final

from aiohttp import web

from seatd.accounts.price_lists import StoredList
from seatd.billing.amounts import plain
from seatd.billing.export import Format
from seatd.billing.totals import Totals
from seatd.flows.months import Months, Preview, What
from seatd.flows.price_lists import PriceLists, read
from seatd.model import Refusal, invalid
from seatd.web.admin_reading import NoQuery, query
from seatd.web.admin_views import listing
from seatd.web.auth import GRANT, for_billing
from seatd.web.closed import CLOSED, MONTH, closed_body, closed_of, send
from seatd.web.codec import respond
from seatd.web.streaming import stream

TOML: Final = "application/toml"
MONTHS: Final = web.AppKey("months", Months)
PRICE_LISTS: Final = web.AppKey("price_lists", PriceLists)

CONTENT_TYPES: Final[dict[Format, str]] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
}
_WHATS: Final[tuple[What, ...]] = ("charges", "usage")


async def _toml(request: web.Request) -> str:
    if request.content_type != TOML:
        raise Refusal("unsupported_media_type", f"A price list is sent as {TOML}.")
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise invalid("body", f"line {line}: is not UTF-8") from None


async def _add_price_list(request: web.Request) -> web.Response:
    query(request, NoQuery)
    added = await request.app[PRICE_LISTS].add(await _toml(request), actor=request[GRANT].id)
    price_list = added.price_list
    body = {"version": price_list.version, "valid_from": price_list.valid_from.isoformat()}
    return respond(request, body, 201 if added.created else 200)


async def _list_price_lists(request: web.Request) -> web.Response:
    query(request, NoQuery)
    lists = await request.app[PRICE_LISTS].listed()
    return listing(request, [_price_list(each) for each in lists], None)


async def _preview(request: web.Request) -> web.Response:
    query(request, NoQuery)
    if closed := await closed_of(request):
        return respond(request, await closed_body(request.app[CLOSED], closed))
    return respond(request, _month(await request.app[MONTHS].preview(request.match_info["month"])))


def _export(what: What, file_format: Format) -> Any:
    async def handler(request: web.Request) -> web.StreamResponse:
        query(request, NoQuery)
        if closed := await closed_of(request):
            return await send(request, closed, f"{what}.{file_format}")
        months = request.app[MONTHS]
        opened = await months.open(request.match_info["month"])
        return await stream(
            request,
            months.exported(opened, what, file_format),
            content_type=CONTENT_TYPES[file_format],
            filename=f"{opened.month.period}.{what}.{file_format}",
        )

    return handler


def _price_list(stored: StoredList) -> dict[str, Any]:
    price_list = read(stored.toml)
    return {
        "version": stored.version,
        "valid_from": stored.valid_from,
        "currency": price_list.currency,
        "timezone": price_list.timezone,
        "products": [
            {
                "product": each.id,
                "name": each.name,
                "tariff": each.tariff,
                "scope": each.scope,
                "metric": each.metric,
                "unit_prices": [tier.unit_price.text for tier in each.tiers],
                "vat_rate": each.vat_rate.text,
            }
            for each in price_list.products.values()
        ],
        "digest": stored.digest,
        "added_ms": stored.added_ms,
    }


def _month(preview: Preview) -> dict[str, Any]:
    month, price_list = preview.opened.month, preview.opened.price_list
    return {
        "period": month.period,
        "status": "open",
        "from_ms": month.start_ms,
        "to_ms": month.end_ms,
        "rated_until_ms": preview.opened.until_ms,
        "timezone": month.timezone,
        "price_list": price_list.version,
        "currency": price_list.currency,
        "net": f"{preview.net:.2f}",
        "vat": f"{preview.vat:.2f}",
        "gross": f"{preview.gross:.2f}",
        "tenants": [_tenant(each) for each in preview.tenants],
        "gaps": [asdict(gap) for gap in preview.gaps],
        "questions": [
            {"code": each.code, "detail": each.detail, **each.fields} for each in preview.questions
        ],
    }


def _tenant(totals: Totals) -> dict[str, Any]:
    return {
        "tenant": totals.tenant,
        "net": f"{totals.net:.2f}",
        "vat": f"{totals.vat:.2f}",
        "gross": f"{totals.gross:.2f}",
        "by_rate": [
            {"vat_rate": plain(each.vat_rate.value), "net": f"{each.net:.2f}", "vat": f"{each.vat:.2f}"}
            for each in totals.by_rate
        ],
    }


def add_billing_routes(app: web.Application, months: Months, price_lists: PriceLists) -> None:
    """Mount the billing routes; the application has those of `closed`, `auth.SERVICES`, and the `problems` middleware."""
    app[MONTHS] = months
    app[PRICE_LISTS] = price_lists
    app.add_routes(
        [
            web.post("/v1/billing/price-lists", for_billing(_add_price_list)),
            web.get("/v1/billing/price-lists", for_billing(_list_price_lists)),
            web.get(f"/v1/billing/{MONTH}", for_billing(_preview)),
            *(
                web.get(f"/v1/billing/{MONTH}/{what}.{each}", for_billing(_export(what, each)))
                for what in _WHATS
                for each in CONTENT_TYPES
            ),
        ]
    )
