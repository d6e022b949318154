"""Billing routes on a real server: price lists, a month's preview, its files; who may, and what is refused."""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seatd.billing.historyfile import read_history
from seatd.database.engine import make_engine
from tests.flows.history_rows import write_history
from tests.postgres import PostgresServer
from tests.servers import SeatdProcess, call
from tests.web.house import House, refused

EXAMPLES = Path(__file__).parent.parent / "billing" / "examples"
PRICES = (EXAMPLES / "prices.toml").read_bytes()
TOML = {"Content-Type": "application/toml"}
ROUTES = [
    ("POST", "/v1/billing/price-lists"),
    ("GET", "/v1/billing/price-lists"),
    ("GET", "/v1/billing/2026-03"),
    ("GET", "/v1/billing/2026-03/charges.csv"),
    ("GET", "/v1/billing/2026-03/charges.jsonl"),
    ("GET", "/v1/billing/2026-03/usage.csv"),
    ("GET", "/v1/billing/2026-03/usage.jsonl"),
]
CLOSED_ROUTES = [
    ("POST", "/v1/billing/2025-12/close"),
    ("GET", "/v1/billing/2026-03/files/history.jsonl"),
    ("GET", "/v1/billing/2026-03/evidence/acme"),
]


pytestmark = pytest.mark.xdist_group("billed")  # one worker: what they share is slow to make


@pytest.fixture(scope="module")
def billed(postgres: PostgresServer) -> Iterator[House]:
    """A server on PostgreSQL that knows the worked example, and nothing else."""
    url = postgres.empty_database()
    server = SeatdProcess("--database", url)
    server.start()
    house = House(server, url)
    refused(house.admin("GET", "/v1/billing/2026-03"), 409, "no_price_list")
    made = house.admin("POST", "/v1/billing/price-lists", raw=PRICES, headers=TOML)
    assert (made.status, made.body) == (201, {"version": "2026-example", "valid_from": "2026-01-01"})
    asyncio.run(load(url))
    yield house
    server.remove()


async def load(url: str) -> None:
    engine = make_engine(url)
    lines = (EXAMPLES / "march.jsonl").read_bytes().splitlines()
    await write_history(engine, [event for _, event in read_history(lines, "march.jsonl")])
    await engine.dispose()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("2026-03/charges.csv", "march.charges.csv"),
        ("2026-03/usage.csv", "march.usage.csv"),
        ("2026-04/charges.csv", "april.charges.csv"),
    ],
)
def test_the_worked_examples_come_through_the_route_to_the_byte(billed: House, path: str, name: str) -> None:
    answer = billed.admin("GET", f"/v1/billing/{path}")
    assert answer.status == 200
    assert answer.raw == (EXAMPLES / name).read_bytes()
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{path.replace("/", ".")}"'


def test_json_lines_hold_the_same(billed: House) -> None:
    answer = billed.admin("GET", "/v1/billing/2026-03/charges.jsonl")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    rows = [json.loads(line) for line in answer.raw.splitlines()]
    head, *lines = (EXAMPLES / "march.charges.csv").read_text().splitlines()
    assert [",".join(row.values()) for row in rows] == lines
    assert all(",".join(row) == head for row in rows)


def test_a_preview_says_what_a_month_comes_to(billed: House) -> None:
    body = billed.ok("GET", "/v1/billing/2026-03")
    assert (body["period"], body["status"], body["timezone"]) == ("2026-03", "open", "Europe/Berlin")
    assert (body["net"], body["vat"], body["gross"]) == ("3147.19", "597.97", "3745.16")
    assert body["tenants"][0] == {
        "tenant": "acme",
        "net": "2631.00",
        "vat": "499.89",
        "gross": "3130.89",
        "by_rate": [{"vat_rate": "19", "net": "2631.00", "vat": "499.89"}],
    }
    assert (body["gaps"], body["questions"]) == ([], [])
    assert (body["to_ms"] - body["from_ms"]) // 3_600_000 == 743
    assert abs(body["rated_until_ms"] - time.time() * 1000) < 60_000
    empty = billed.ok("GET", "/v1/billing/2026-01")
    assert (empty["tenants"], empty["net"]) == ([], "0.00")


def test_price_lists(billed: House) -> None:
    again = billed.admin("POST", "/v1/billing/price-lists", raw=PRICES, headers=TOML)
    assert (again.status, again.body["version"]) == (200, "2026-example")
    other = billed.admin(
        "POST", "/v1/billing/price-lists", raw=PRICES.replace(b"39.00", b"38.00"), headers=TOML
    )
    refused(other, 409, "conflict")
    (listed,) = billed.ok("GET", "/v1/billing/price-lists")["items"]
    assert (listed["version"], listed["valid_from"], listed["currency"]) == (
        "2026-example",
        "2026-01-01",
        "EUR",
    )
    assert listed["products"][0] == {
        "product": "team",
        "name": "Team",
        "tariff": "team",
        "scope": "named",
        "metric": "booked_peak",
        "unit_prices": ["39.00"],
        "vat_rate": "19",
    }


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", "vat"),
        (b"\xff\xfe", "body"),
        (b"version = ", "body"),
        (PRICES + b"\n[products.team.x]\n", "products.team"),
        (PRICES.replace(b'"39.00"', b"39.00"), "products.team.unit_price"),
    ],
)
def test_a_price_list_that_is_wrong_is_refused_with_place_and_reason(
    billed: House, raw: bytes, field: str
) -> None:
    problem = refused(
        billed.admin("POST", "/v1/billing/price-lists", raw=raw, headers=TOML), 400, "invalid_request"
    )
    assert problem["errors"][0]["field"].startswith(field)
    assert len(billed.ok("GET", "/v1/billing/price-lists")["items"]) == 1


def test_what_is_sent_as_something_else_or_too_large_is_refused(billed: House) -> None:
    path = "/v1/billing/price-lists"
    refused(billed.admin("POST", path, raw=PRICES), 415, "unsupported_media_type")
    refused(billed.admin("POST", path, raw=b"#" * 2_000_000, headers=TOML), 413, "too_large")


def test_what_is_not_there(billed: House) -> None:
    for path in (
        "2026-03/corrections.csv",
        "2026-3",
        "march",
        "2026-03/evidence.jsonl",
    ):
        refused(billed.admin("GET", f"/v1/billing/{path}"), 404, "not_found")
    refused(billed.admin("POST", "/v1/billing/2026-3/close"), 404, "not_found")
    refused(billed.admin("DELETE", "/v1/billing/2026-03"), 405, "method_not_allowed")
    refused(billed.admin("GET", "/v1/billing/2026-13"), 400, "invalid_request")
    refused(billed.admin("GET", "/v1/billing/2026-03?x=1"), 400, "invalid_request")
    refused(billed.admin("GET", "/v1/billing/2025-12/charges.csv"), 409, "no_price_list")


@pytest.mark.parametrize(("method", "path"), ROUTES + CLOSED_ROUTES)
@pytest.mark.parametrize(
    ("who", "status"),
    [("admin", 0), ("billing", 0), ("own", 403), ("client", 403), ("unknown", 401), ("none", 401)],
)
def test_who_may(billed: House, method: str, path: str, who: str, status: int) -> None:
    if not hasattr(billed, "asked"):
        billed.asked = billed.tenant(tariff=None)  # type: ignore[attr-defined]  # made once
    key = billed.key_of(who, billed.asked)  # type: ignore[attr-defined]  # see above
    raw = PRICES if method == "POST" else None
    answer = call(method, billed.server.internal_url + path, key=key, raw=raw, headers=TOML)
    refusing = 0 if (method, path) in ROUTES else answer.status  # there, that month is not closed
    assert answer.status == (status or refusing or 200), answer.raw
    assert status or answer.status not in (401, 403)
    assert call(method, billed.server.url + path, key=key, raw=raw, headers=TOML).status in (404, 405)


def test_a_month_that_is_not_over_stays_open(billed: House) -> None:
    now = time.gmtime()
    problem = refused(
        billed.admin("POST", f"/v1/billing/{now.tm_year}-{now.tm_mon:02}/close"), 409, "not_over"
    )
    assert problem["closes_from_ms"] > time.time() * 1000
    bodies: list[Any] = [{"accept_gap": ""}, {"accept_gap": "a\nb"}, {"accept_gap": 1}, {"reason": "x"}, []]
    for body in bodies:
        refused(billed.admin("POST", "/v1/billing/2026-04/close", body), 400, "invalid_request")
    refused(billed.admin("GET", "/v1/billing/2026-04/files/history.jsonl"), 409, "conflict")
    refused(billed.admin("GET", "/v1/billing/2026-04/evidence/acme"), 409, "conflict")
    refused(billed.admin("POST", "/v1/billing/2025-12/close"), 409, "no_price_list")


def test_a_closed_month_is_served_as_it_was_closed(billed: House) -> None:
    before = billed.admin("GET", "/v1/billing/2026-04")
    closed = billed.admin("POST", "/v1/billing/2026-04/close")
    assert (closed.status, closed.body["status"]) == (200, "closed"), closed.raw
    again = billed.admin("POST", "/v1/billing/2026-04/close", {"accept_gap": "none is there"})
    assert (again.status, again.raw) == (200, closed.raw)
    shown = billed.admin("GET", "/v1/billing/2026-04")
    assert shown.raw == closed.raw
    for name in ("period", "from_ms", "to_ms", "price_list", "currency", "net", "vat", "gross"):
        assert shown.body[name] == before.body[name]
    assert [each["tenant"] for each in shown.body["tenants"]] == ["acme", "birch", "cedar"]
    charges = billed.admin("GET", "/v1/billing/2026-04/charges.csv").raw
    assert charges == (EXAMPLES / "april.charges.csv").read_bytes()
    for name, stated in closed.body["files"].items():
        raw = billed.admin("GET", f"/v1/billing/2026-04/files/{name}").raw
        assert {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()} == stated
    assert billed.admin("GET", "/v1/billing/2026-04/files/manifest.json").raw.startswith(b'{"signature"')
    bundle = billed.admin("GET", "/v1/billing/2026-04/evidence/acme")
    assert bundle.headers["Content-Type"] == "application/gzip"
    assert bundle.raw == billed.admin("GET", "/v1/billing/2026-04/evidence/acme").raw
    refused(billed.admin("GET", "/v1/billing/2026-04/evidence/nobody"), 404, "not_found")
    refused(billed.admin("GET", "/v1/billing/2026-04/files/secret.key"), 404, "not_found")
    rows = billed.admin("GET", "/v1/audit?limit=1000").body["items"]
    assert [row["detail"]["period"] for row in rows if row["action"] == "month.close"] == ["2026-04"]
