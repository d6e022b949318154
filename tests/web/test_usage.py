"""`GET /v1/tenants/{t}/usage` on a real server: what was used, as a tenant's own administrators see it."""

import asyncio
import time
from typing import Any

from sqlalchemy import insert

from seatd.database.engine import make_engine, writing
from seatd.database.schema import samples
from tests.servers import call
from tests.web.house import House, refused


def wait_for(house: House, path: str, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 10
    while True:
        items: list[dict[str, Any]] = house.ok("GET", path)["items"]
        if len(items) >= count:
            return items
        assert time.monotonic() < deadline, items
        time.sleep(0.1)


def test_leases_are_listed_with_names_in_pages(house: House) -> None:
    name = house.tenant(tariff="team", seats=3)
    key = house.key(name, "client")
    begun = int(time.time() * 1000)
    leases = [house.seat(key, user, labels={"site": "Bonn"}).body for user in ("ana", "bo", "cy")]
    released = call(
        "DELETE",
        f"{house.server.url}/v1/leases/{leases[0]['lease']}",
        key=key,
        headers={"Seat-Receipt": leases[0]["receipt"]},
    )
    assert released.status == 204
    path = f"/v1/tenants/{name}/usage?from_ms={begun - 5_000}&to_ms={begun + 60_000}&intervals=true"
    rows = wait_for(house, path, 3)
    while rows[0]["ended_ms"] is None:
        rows = wait_for(house, path, 3)
    assert [(row["lease"], row["user"]) for row in rows] == [
        (lease["lease"], lease["user"])
        for lease in sorted(leases, key=lambda x: (x["started_ms"], x["lease"]))
    ]
    first = next(row for row in rows if row["user"] == "ana")
    assert (first["end_reason"], first["labels"], first["tariff"]) == ("released", {"site": "Bonn"}, "team")
    assert all(row["ended_ms"] is None for row in rows if row["user"] != "ana")
    paged: list[dict[str, Any]] = []
    after = ""
    while True:
        page = house.ok("GET", f"{path}&limit=2{after}")
        paged += page["items"]
        if "next" not in page:
            break
        after = f"&after={page['next']}"
    assert paged == rows
    own = house.key(name, "tenant_admin")
    assert call("GET", house.server.internal_url + path, key=own).body["items"] == rows


def test_samples_are_listed_by_minute_in_pages(house: House) -> None:
    name = house.tenant(tariff="team", seats=3)
    rows = [
        {"minute_ms": minute, "in_use": 1, "peak": 2, "capacity": 3, "waiting": 0, "denied": 4}
        for minute in (60_000, 120_000, 180_000)
    ]
    asyncio.run(insert_samples(house.database_url, [{"tenant": name, **row} for row in rows]))
    path = f"/v1/tenants/{name}/usage"
    assert house.ok("GET", f"{path}?from_ms=60000&to_ms=180000")["items"] == rows[:2]
    first = house.ok("GET", f"{path}?from_ms=0&to_ms=900000&limit=2")
    assert first == {"items": rows[:2], "next": "120000"}
    assert house.ok("GET", f"{path}?from_ms=0&to_ms=900000&limit=2&after=120000") == {"items": rows[2:]}


async def insert_samples(url: str, rows: list[dict[str, Any]]) -> None:
    engine = make_engine(url)
    async with writing(engine) as connection:
        await connection.execute(insert(samples), rows)
    await engine.dispose()


def test_times_and_marks_are_checked(house: House) -> None:
    name = house.tenant(tariff="team", seats=1)
    path = f"/v1/tenants/{name}/usage"
    assert house.ok("GET", path) == {"items": []}
    for wrong in (
        "from_ms=2&to_ms=1",
        "from_ms=-1",
        "to_ms=x",
        "intervals=maybe",
        "limit=0",
        "limit=1001",
        "after=x",
        "after=1:x",
        "unit=1",
    ):
        refused(house.admin("GET", f"{path}?{wrong}"), 400, "invalid_request")
    refused(house.admin("GET", f"{path}?intervals=true&after=x"), 400, "invalid_request")
    refused(house.admin("GET", "/v1/tenants/nobody/usage"), 404, "not_found")
    refused(house.admin("GET", "/v1/tenants/nobody/usage?intervals=true"), 404, "not_found")


def test_who_may(house: House) -> None:
    name = house.tenant(tariff="team", seats=1)
    for who, status in [("own", 200), ("other", 403), ("billing", 403), ("client", 403), ("none", 401)]:
        key = house.key_of(who, name)
        assert call("GET", f"{house.server.internal_url}/v1/tenants/{name}/usage", key=key).status == status
