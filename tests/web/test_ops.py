"""The operators' routes answer while the store is away, and never show more tenants than they may."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

import seatd
from seatd.telemetry import TENANT_GAUGES
from seatd.web import ops
from seatd.web.ops import OTHER, Probes, TenantNow, add_ops_routes, bounded
from tests.servers import Reply, SeatdProcess, call
from tests.valkey import ValkeyServer

Client = TestClient[web.Request, web.Application]
FEW = [TenantNow("acme", 3, 50, 0), TenantNow("beta", 10, 10, 2), TenantNow("c.d@e:f+g-h", 0, 0, 0)]


def answering(value: Any) -> Callable[[], Awaitable[Any]]:
    async def probe() -> Any:
        return value

    return probe


async def hang() -> bool:
    await asyncio.sleep(60)
    return True


async def fail() -> bool:
    raise ConnectionError("away")


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


GOOD = Probes(answering(FEW), yes, yes, lambda: True)


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    clients: list[Client] = []

    async def open_with(probes: Probes, **options: int) -> Client:
        app = web.Application()
        add_ops_routes(app, probes, **options)
        clients.append(TestClient(TestServer(app)))
        await clients[-1].start_server()
        return clients[-1]

    yield open_with
    for client in clients:
        await client.close()


def values(text: str, parse=plain) -> dict[tuple[str, str], float]:
    """Sample name and tenant -> value; fails where a sample comes twice."""
    samples = [sample for family in parse(text) for sample in family.samples]
    keys = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in samples]
    assert len(keys) == len({*keys})
    return {(sample.name, sample.labels.get("tenant", "")): sample.value for sample in samples}


async def scrape(client: Client, **headers: str) -> str:
    answer = await client.get("/metrics", headers=headers)
    assert answer.status == 200
    return await answer.text()


# -- metrics ----------------------------------------------------------------------------------------


async def test_a_scrape_shows_tenants_and_the_house(opened):
    shown = values(await scrape(await opened(GOOD)))
    assert shown["seatd_tenant_seats_in_use", "acme"] == 3
    assert shown["seatd_tenant_seats_capacity", "beta"] == 10
    assert shown["seatd_tenant_seats_denied", "beta"] == 2
    assert shown["seatd_tenant_seats_in_use", "c.d@e:f+g-h"] == 0
    assert shown["seatd_tenants", ""] == 3
    assert shown["seatd_tenants_full", ""] == 1
    assert shown["seatd_store_up", ""] == 1
    assert shown["seatd_database_up", ""] == 1
    assert shown["seatd_build_info", ""] == 1
    assert ("seatd_tenant_seats_in_use", OTHER) not in shown


async def test_each_scrape_reads_anew_and_forgets_who_has_gone(opened):
    rows = [TenantNow("acme", 1, 5, 0), TenantNow("gone", 1, 5, 0)]
    client = await opened(replace(GOOD, tenants_now=answering(rows)))
    assert values(await scrape(client))["seatd_tenant_seats_in_use", "gone"] == 1
    rows[:] = [TenantNow("acme", 2, 5, 0)]
    shown = values(await scrape(client))
    assert shown["seatd_tenant_seats_in_use", "acme"] == 2
    assert ("seatd_tenant_seats_in_use", "gone") not in shown


async def test_many_tenants_make_a_bounded_scrape(opened):
    rows = [TenantNow(f"t{number}", number % 7, number, 1) for number in range(2_000)]
    text = await scrape(await opened(replace(GOOD, tenants_now=answering(rows)), largest=20))
    shown = values(text)
    for name, _ in TENANT_GAUGES.values():
        assert len([key for key in shown if key[0] == name]) == 21
    assert ("seatd_tenant_seats_capacity", "t1999") in shown
    assert ("seatd_tenant_seats_capacity", "t1979") not in shown
    assert shown["seatd_tenant_seats_capacity", OTHER] == sum(range(1_980))
    assert shown["seatd_tenants", ""] == 2_000
    assert len(text) < 30_000


ROWS = st.lists(
    st.builds(
        TenantNow,
        st.sampled_from([OTHER, "__other", *"abcdefgh"]),
        *[st.integers(0, 9)] * 3,
    ),
    max_size=10,
    unique_by=lambda row: row.tenant,
)


@given(ROWS, st.integers(0, 6))
def test_bounding_loses_no_seat_and_names_nobody_twice(rows: list[TenantNow], largest: int):
    shown = bounded(rows, largest)
    names = [row.tenant for row in shown]
    assert len(names) == len({*names})
    assert len([name for name in names if name != OTHER]) <= largest
    assert len(names) <= largest + 1
    for field in TENANT_GAUGES:
        assert sum(getattr(row, field) for row in shown) == sum(getattr(row, field) for row in rows)
    named = [row for row in shown if row.tenant != OTHER]
    hidden = [row for row in rows if row.tenant not in names and row.tenant != OTHER]
    assert all(row in rows for row in named)
    assert all(small.capacity <= large.capacity for small in hidden for large in named)


async def test_a_tenant_called_other_does_not_spoil_the_scrape(opened):
    rows = [TenantNow(OTHER, 9, 99, 0), TenantNow("a", 1, 3, 0), TenantNow("b", 1, 2, 0)]
    shown = values(await scrape(await opened(replace(GOOD, tenants_now=answering(rows)), largest=1)))
    assert shown["seatd_tenant_seats_capacity", "a"] == 3
    assert shown["seatd_tenant_seats_capacity", OTHER] == 101


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("", "text/plain; version=0.0.4", plain),
        ("*/*", "text/plain; version=0.0.4", plain),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text; version=1.0.0",
            openmetrics,
        ),
    ],
)
async def test_the_scraper_chooses_the_format(opened, accept: str, content_type: str, parse):
    client = await opened(GOOD)
    answer = await client.get("/metrics", headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith(content_type)
    assert values(await answer.text(), parse)["seatd_tenant_seats_in_use", "acme"] == 3


@pytest.mark.parametrize("trouble", [hang, fail])
async def test_a_scrape_is_answered_while_the_store_is_away(opened, monkeypatch, trouble):
    monkeypatch.setattr(ops, "READ_S", 0.1)
    client = await opened(replace(GOOD, tenants_now=trouble, store_ok=trouble, database_ok=lambda: False))
    began = time.monotonic()
    text = await scrape(client)
    assert time.monotonic() - began < 1
    shown = values(text)
    assert shown["seatd_store_up", ""] == 0
    assert shown["seatd_database_up", ""] == 0
    assert "process_resident_memory_bytes" in text
    assert not [key for key in shown if key[0].startswith("seatd_tenant")]
    assert re.search(r'seatd_scrape_errors_total\{read="tenants"\} [1-9]', text)
    assert re.search(r'seatd_scrape_errors_total\{read="store"\} [1-9]', text)


def test_the_wait_is_a_second():
    assert ops.READ_S <= 1


# -- health -----------------------------------------------------------------------------------------


async def test_alive_whatever_is_away(opened):
    answer = await (await opened(Probes(hang, fail, fail, lambda: False))).get("/healthz")  # type: ignore[arg-type]  # says no
    assert answer.status == 200
    assert await answer.json() == {"status": "ok", "version": seatd.__version__}


@pytest.mark.parametrize(
    ("probes", "status", "checks"),
    [
        (GOOD, 200, {"store": "ok", "policies": "ok", "database": "ok"}),
        (
            replace(GOOD, database_ok=lambda: False),
            200,
            {"store": "ok", "policies": "ok", "database": "away"},
        ),
        (replace(GOOD, policies_ok=fail), 503, {"store": "ok", "policies": "away", "database": "ok"}),
        (
            replace(GOOD, store_ok=no, policies_ok=hang),
            503,
            {"store": "away", "policies": "away", "database": "ok"},
        ),
    ],
)
async def test_ready_is_what_clients_need(opened, monkeypatch, probes, status: int, checks: dict[str, str]):
    monkeypatch.setattr(ops, "READ_S", 0.1)
    client = await opened(probes)
    answer = await client.get("/readyz")
    assert answer.status == status
    assert await answer.json() == {"ready": status == 200, "checks": checks, "learning": []}


async def test_ready_again_when_the_store_is_back(opened):
    up = asyncio.Event()

    async def is_up() -> bool:
        return up.is_set()

    client = await opened(replace(GOOD, store_ok=is_up))
    assert (await client.get("/readyz")).status == 503
    up.set()
    assert (await client.get("/readyz")).status == 200


def test_a_real_server_says_that_its_store_is_away_and_back(new_seatd: Callable[..., SeatdProcess]):
    store = ValkeyServer()
    store.start()
    try:
        server = new_seatd("--store", store.url).start()
        server.tenant("acme", tariff="team", seats=7)

        def ask(path: str) -> Reply:
            return call("GET", server.internal_url + path, headers={"Accept": "*/*"})

        assert values(ask("/metrics").raw.decode())["seatd_tenant_seats_capacity", "acme"] == 7
        assert ask("/readyz").status == 200
        store.kill()
        began = time.monotonic()
        assert ask("/readyz").status == 503
        gone = values(ask("/metrics").raw.decode())
        assert time.monotonic() - began < 4
        assert gone["seatd_store_up", ""] == 0
        assert ("seatd_tenant_seats_capacity", "acme") not in gone
        assert ask("/healthz").status == 200
        store.start()
        deadline = time.monotonic() + 20
        while (again := ask("/readyz")).status != 200:
            assert time.monotonic() < deadline, again.raw
            time.sleep(0.1)
        assert again.body["checks"] == {"store": "ok", "policies": "ok", "database": "ok"}
    finally:
        store.remove()
