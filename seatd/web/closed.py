"""Closed months on the internal listener: close one, read its files, take a tenant's evidence.  Decode, call, encode.

A closed month is answered from what stands: the same bytes to everybody, for ever.
"""

import json
from decimal import Decimal
from typing import Any, Final

from aiohttp import web
from msgspec import Struct

from seatd.billing.amounts import exact_sum
from seatd.flows.closed_months import MANIFEST, ClosedMonth, ClosedMonths
from seatd.flows.closing import Closing
from seatd.flows.month_files import NAMES
from seatd.model import Refusal
from seatd.web.admin_reading import NoQuery, path_id, query
from seatd.web.auth import GRANT, for_billing
from seatd.web.codec import Body, respond
from seatd.web.streaming import stream

CLOSING: Final = web.AppKey("closing", Closing)
CLOSED: Final = web.AppKey("closed", ClosedMonths)
MONTH: Final = r"{month:\d{4}-\d{2}}"
GZIP: Final = "application/gzip"
_CONTENT_TYPES: Final = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "json": "application/octet-stream",  # its bytes are what was signed: nobody is to read and write it again
    "toml": "application/toml",
    "py": "text/x-python; charset=utf-8",
}


class CloseBody(Struct, forbid_unknown_fields=True):
    """`accept_gap`: why the month is closed although usage events of it were lost."""

    accept_gap: str | None = None


_BODY: Final = Body(CloseBody)


async def _close(request: web.Request) -> web.Response:
    query(request, NoQuery)
    body = await _BODY.read(request, json_only=True) if request.can_read_body else CloseBody()
    closed, _ = await request.app[CLOSING].close(
        request.match_info["month"], accept_gap=body.accept_gap, actor=request[GRANT].id
    )
    return respond(request, await closed_body(request.app[CLOSED], closed))


async def closed_of(request: web.Request) -> ClosedMonth | None:
    """Find the month that a request is about, if it is closed."""
    return await request.app[CLOSED].find(request.match_info["month"])


async def closed_body(closed: ClosedMonths, month: ClosedMonth) -> dict[str, Any]:
    """Lay a closed month out; sums and tenants are those of its files."""
    signed = month.signed
    tenants = [json.loads(line) for line in (await closed.read(month, "totals.jsonl")).splitlines()]
    sums = {name: exact_sum([Decimal(each[name]) for each in tenants]) for name in ("net", "vat", "gross")}
    return {
        "period": month.period,
        "status": "closed",
        "from_ms": month.start_ms,
        "to_ms": month.end_ms,
        "closed_ms": month.closed_ms,
        "timezone": month.timezone,
        "price_list": month.price_list,
        "currency": signed["currency"],
        **{name: f"{value:.2f}" for name, value in sums.items()},
        "tenants": tenants,
        "gaps": signed["accepted_gaps"],
        "questions": [],
        "files": signed["files"],
        "chain": signed["chain"],
        "audit": signed["audit"],
        "kid": month.kid,
    }


async def send(request: web.Request, month: ClosedMonth, name: str) -> web.StreamResponse:
    """Send a file of a closed month."""
    return await stream(
        request,
        request.app[CLOSED].file(month, name),
        content_type=_CONTENT_TYPES[name.rpartition(".")[2]],
        filename=f"{month.period}.{name}",
    )


async def _file(request: web.Request) -> web.StreamResponse:
    query(request, NoQuery)
    return await send(request, await _closed(request), request.match_info["name"])


async def _evidence(request: web.Request) -> web.Response:
    query(request, NoQuery)
    tenant, month = path_id(request, "tenant"), await _closed(request)
    raw = await request.app[CLOSED].bundle(month, tenant)
    named = f'attachment; filename="{month.period}.{tenant}.tar.gz"'
    headers = {"Content-Disposition": named, "Cache-Control": "no-store"}
    return web.Response(body=raw, content_type=GZIP, headers=headers)


async def _closed(request: web.Request) -> ClosedMonth:
    month = await closed_of(request)
    if month is None:
        raise Refusal("conflict", f"{request.match_info['month']} is not closed.")
    return month


def add_closed_routes(app: web.Application, closing: Closing, closed: ClosedMonths) -> None:
    """Mount the routes of closed months; the application has `auth.SERVICES` set, and the `problems` middleware."""
    app[CLOSING] = closing
    app[CLOSED] = closed
    names = "|".join(name.replace(".", r"\.") for name in (*NAMES, MANIFEST))
    app.add_routes(
        [
            web.post(f"/v1/billing/{MONTH}/close", for_billing(_close)),
            web.get(f"/v1/billing/{MONTH}/files/{{name:{names}}}", for_billing(_file)),
            web.get(f"/v1/billing/{MONTH}/evidence/{{tenant}}", for_billing(_evidence)),
        ]
    )
