"""Operators' routes on the internal listener, without a key: /metrics, /healthz, /readyz.

Everything is read through `Probes`, at the moment it is asked for and for a second at most, so that a scrape
is answered while the store is away.  Tenants become labels here and nowhere else: the largest by name, the
rest as `_other`.  No business, no cache, no secret.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from aiohttp import web
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

import seatd
from seatd.telemetry import (
    DATABASE_UP,
    REGISTRY,
    SCRAPE_ERRORS,
    STORE_UP,
    TENANT_GAUGES,
    TENANTS,
    TENANTS_FULL,
    TENANTS_LEARNING,
    log,
)

LARGEST: Final = 50
OTHER: Final = "_other"
READ_S: Final = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TenantNow:
    """How full a tenant is: seats in use, the cap that is enforced, users refused in the minute that runs.

    `learning_ms` is how long it still learns who sits, after the store was lost; 0 where it does not.  `waiting` users
    stand in line.
    """

    tenant: str
    in_use: int
    capacity: int
    denied: int
    learning_ms: int = 0
    waiting: int = 0

    @property
    def full(self) -> bool:
        """Whether the tenant turns users away: every seat is taken and somebody wanted one."""
        return self.in_use >= self.capacity and self.denied > 0


async def _own_families() -> Iterable[Metric]:
    return REGISTRY.collect()


@dataclass(frozen=True, slots=True)
class Probes:
    """What the routes ask the house; a probe that raises or takes longer than a second has said no.

    `tenants_now`: every tenant that the store knows.  `store_ok`: the store answers.  `policies_ok`: every
    partition has an epoch open, or gets one, so that a tenant's policy can be found or projected.
    `database_ok`: whether the account database answered when it was last asked; does not wait.  `families`: what this
    seatd counts, all its processes together.
    """

    tenants_now: Callable[[], Awaitable[Sequence[TenantNow]]]
    store_ok: Callable[[], Awaitable[bool]]
    policies_ok: Callable[[], Awaitable[bool]]
    database_ok: Callable[[], bool]
    families: Callable[[], Awaitable[Iterable[Metric]]] = _own_families


def bounded(rows: Iterable[TenantNow], largest: int) -> list[TenantNow]:
    """Keep the `largest` tenants by capacity under their names, and add the rest up as `_other`.

    A tenant that is really called `_other` comes last, so that it is one of the rest where there is a rest: no
    two rows bear one name.
    """
    ranked = sorted(rows, key=lambda row: (row.tenant == OTHER, -row.capacity, -row.in_use, row.tenant))
    named, rest = ranked[:largest], ranked[largest:]
    if not rest:
        return named
    total = TenantNow(
        OTHER,
        sum(row.in_use for row in rest),
        sum(row.capacity for row in rest),
        sum(row.denied for row in rest),
        waiting=sum(row.waiting for row in rest),
    )
    return [*named, total]


@dataclass(frozen=True, slots=True)
class _Scrape(Collector):
    """One scrape: what the process counts, and what was read of the tenants, if anything was."""

    families: Iterable[Metric]
    rows: Sequence[TenantNow] | None
    largest: int

    def collect(self) -> Iterator[Metric]:
        """Yield every family once."""
        yield from self.families
        if self.rows is None:  # better no number than an old one
            return
        yield GaugeMetricFamily(*TENANTS, value=len(self.rows))
        yield GaugeMetricFamily(*TENANTS_FULL, value=sum(row.full for row in self.rows))
        yield GaugeMetricFamily(*TENANTS_LEARNING, value=sum(row.learning_ms > 0 for row in self.rows))
        shown = bounded(self.rows, self.largest)
        for field, (name, text) in TENANT_GAUGES.items():
            family = GaugeMetricFamily(name, text, labels=["tenant"])
            for row in shown:
                family.add_metric([row.tenant], getattr(row, field))
            yield family


async def _read(name: str, probe: Callable[[], Awaitable[T]], otherwise: T) -> T:
    """Ask a probe for at most `READ_S`; what fails or takes longer counts, and comes to `otherwise`."""
    try:
        async with asyncio.timeout(READ_S):
            return await probe()
    except Exception as error:  # noqa: BLE001 - whatever it was, the operator gets an answer
        SCRAPE_ERRORS.labels(name).inc()
        log.debug("probe failed", probe=name, error=f"{type(error).__name__}: {error}")
        return otherwise


def add_ops_routes(app: web.Application, probes: Probes, *, largest: int = LARGEST) -> None:
    """Add /metrics, /healthz and /readyz to the internal listener; `largest` tenants are named."""

    async def tenants() -> Sequence[TenantNow] | None:
        return await probes.tenants_now()

    def looked_at(store: bool) -> bool:
        database = probes.database_ok()
        STORE_UP.set(store)
        DATABASE_UP.set(database)
        return database

    async def metrics(request: web.Request) -> web.Response:
        rows, store = await asyncio.gather(
            _read("tenants", tenants, None), _read("store", probes.store_ok, otherwise=False)
        )
        looked_at(store)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = encode(_Scrape(await probes.families(), rows, largest))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthy(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "version": seatd.__version__})

    async def ready(_: web.Request) -> web.Response:
        store, policies, rows = await asyncio.gather(
            _read("store", probes.store_ok, otherwise=False),
            _read("policies", probes.policies_ok, otherwise=False),
            _read("tenants", tenants, None),
        )
        database = looked_at(store)
        # No client route needs SQL: a seatd without it is ready, and says so.
        checks = {"store": store, "policies": policies, "database": database}
        body = {
            "ready": store and policies,
            "checks": {name: _word(ok) for name, ok in checks.items()},
            "learning": _learning(rows or ()),
        }
        return web.json_response(body, status=200 if body["ready"] else 503)

    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthy), web.get("/readyz", ready)])


def _learning(rows: Iterable[TenantNow]) -> list[dict[str, object]]:
    """Say who still learns, for how long, and why; the longest first, the largest number of them bounded."""
    learning = sorted((row for row in rows if row.learning_ms > 0), key=lambda row: -row.learning_ms)
    why = "the seat store was lost; who sits is being learnt from receipts"
    return [{"tenant": row.tenant, "for_ms": row.learning_ms, "why": why} for row in learning[:LARGEST]]


def _word(ok: bool) -> str:
    return "ok" if ok else "away"
