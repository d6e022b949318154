"""A month's leases, Parquet files, and booking batch, on the internal listener.  Decode, call, encode.

Opened by the admin key or one of scope `billing`.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

from seatd.billing.export import Format
from seatd.flows.month_exports import Bookings, as_parquet, intervals
from seatd.model import Refusal
from seatd.web.admin_reading import NoQuery, query
from seatd.web.auth import for_billing
from seatd.web.billing import CONTENT_TYPES, MONTHS
from seatd.web.closed import CLOSED, MONTH, closed_of, send
from seatd.web.streaming import stream

BOOKINGS: Final = web.AppKey("bookings", Bookings)
PARQUET: Final = "application/vnd.apache.parquet"
_DATEV: Final = "text/csv; charset=windows-1252"


async def _csv(request: web.Request, what: str) -> AsyncIterator[bytes]:
    """Give a CSV file of a month, closed or open."""
    if closed := await closed_of(request):
        return request.app[CLOSED].file(closed, f"{what}.csv")
    months = request.app[MONTHS]
    opened = await months.open(request.match_info["month"])
    if what == "intervals":
        return intervals(months, opened, "csv")
    return months.exported(opened, "charges" if what == "charges" else "usage", "csv")


def _parquet(what: str) -> Any:
    async def handler(request: web.Request) -> web.StreamResponse:
        query(request, NoQuery)
        chunks = as_parquet(await _csv(request, what))
        filename = f"{request.match_info['month']}.{what}.parquet"
        return await stream(request, chunks, content_type=PARQUET, filename=filename)

    return handler


def _intervals(file_format: Format) -> Any:
    async def handler(request: web.Request) -> web.StreamResponse:
        query(request, NoQuery)
        if closed := await closed_of(request):
            return await send(request, closed, f"intervals.{file_format}")
        months = request.app[MONTHS]
        opened = await months.open(request.match_info["month"])
        return await stream(
            request,
            intervals(months, opened, file_format),
            content_type=CONTENT_TYPES[file_format],
            filename=f"{opened.month.period}.intervals.{file_format}",
        )

    return handler


async def _bookings(request: web.Request) -> web.Response:
    query(request, NoQuery)
    closed = await closed_of(request)
    if closed is None:
        raise Refusal(
            "conflict", f"{request.match_info['month']} is not closed: what may change is not booked."
        )
    raw = await request.app[BOOKINGS].batch(closed)
    named = f'attachment; filename="EXTF_Buchungsstapel_{closed.period}.csv"'
    headers = {"Content-Disposition": named, "Cache-Control": "no-store", "Content-Type": _DATEV}
    return web.Response(body=raw, headers=headers)


def add_month_export_routes(app: web.Application, bookings: Bookings) -> None:
    """Mount further exports of months, beside the routes of billing and of closed months, which are mounted first."""
    app[BOOKINGS] = bookings
    at = f"/v1/billing/{MONTH}"
    formats: tuple[Format, ...] = ("csv", "jsonl")
    app.add_routes(
        [
            *(web.get(f"{at}/intervals.{each}", for_billing(_intervals(each))) for each in formats),
            *(web.get(f"{at}/{what}.parquet", for_billing(_parquet(what))) for what in ("charges", "usage", "intervals")),
            web.get(f"{at}/datev.csv", for_billing(_bookings)),
        ]
    )  # fmt: skip
