"""`GET /v1/tenants/{tenant}/usage`: samples of a tenant, or the leases themselves.  Decode, call, encode."""

import time
from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta, Struct

from seatd.accounts.pages import LIMIT_DEFAULT, LIMIT_MAX
from seatd.flows.usage import samples_page, sittings_page
from seatd.model import invalid
from seatd.usage.ledger import Sample, SittingRecord
from seatd.web.admin_reading import Id, Instant, path_id, query
from seatd.web.admin_views import listing
from seatd.web.auth import SERVICES, for_tenant
from seatd.web.listener import add_routes

DAY_MS: Final = 86_400_000


class UsageQuery(Struct):
    """Which time (default: the last 24 hours up to now), of what, and which page of it."""

    from_ms: Instant | None = None
    to_ms: Instant | None = None
    intervals: bool = False
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT
    after: Id | None = None


async def _usage(request: web.Request) -> web.Response:
    tenant, asked = path_id(request, "tenant"), query(request, UsageQuery)
    from_ms, to_ms = _time(asked)
    engine = request.app[SERVICES].accounts.engine
    if asked.intervals:
        leases = await sittings_page(engine, tenant, from_ms, to_ms, after=asked.after, limit=asked.limit)
        return listing(request, [_lease(each) for each in leases.items], leases.next)
    samples = await samples_page(engine, tenant, from_ms, to_ms, after=asked.after, limit=asked.limit)
    return listing(request, [_sample(each) for each in samples.items], samples.next)


def _time(asked: UsageQuery) -> tuple[int, int]:
    to_ms = time.time_ns() // 1_000_000 if asked.to_ms is None else asked.to_ms
    from_ms = max(0, to_ms - DAY_MS) if asked.from_ms is None else asked.from_ms
    if from_ms > to_ms:
        raise invalid("from_ms", "must not be after to_ms")
    return from_ms, to_ms


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "minute_ms": sample.minute_ms,
        "in_use": sample.in_use,
        "peak": sample.peak,
        "capacity": sample.capacity,
        "waiting": sample.waiting,
        "denied": sample.denied,
    }


def _lease(record: SittingRecord) -> dict[str, Any]:
    return {
        "lease": record.lease,
        "user": record.user,
        "tariff": record.tariff or None,
        "started_ms": record.started_ms,
        "ended_ms": record.ended_ms,
        "end_reason": record.end_reason if record.ended_ms is not None else None,
        "labels": dict(record.labels),
    }


def add_usage_routes(app: web.Application) -> None:
    """Mount the usage route; the application has `auth.SERVICES` set, and the `problems` middleware."""
    add_routes(app, [web.get("/v1/tenants/{tenant}/usage", for_tenant(_usage))])
