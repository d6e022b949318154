"""SQL away: known tenants work on, a seatd started meanwhile included; the usage waits in the stream."""

import time
from typing import Any

from tests.servers import SeatdProcess
from tests.system.test_seats_http import acquire, interval, release, renew
from tests.valkey import ValkeyServer


def test_known_tenants_work_on_while_postgresql_is_stopped(new_seatd, new_postgres):
    database = new_postgres()
    store = ValkeyServer(appendonly=True)
    store.start()
    try:
        server: SeatdProcess = new_seatd(
            "--store", store.url, "--database", database.empty_database()
        ).start()
        key = server.tenant("acme", tariff="team", seats=2, lease_ttl_ms=60_000)
        held = acquire(server, key, "ana").body
        interval_known(server, held["lease"])
        database.stop()

        works_on(server, key, held)
        refused = server.admin("PUT", "/v1/tenants/acme", {"name": "new name"})
        assert (refused.status, refused.body["code"]) == (503, "database_unavailable")

        server.kill()
        server.start()
        bob = works_on(server, key, held)
        with store.client() as client:
            assert client.xlen("seatd:{p00}:events") >= 4

        database.start()
        row = interval(server, "acme", bob["lease"])
        assert row["started_ms"] == bob["started_ms"]
        assert row["ended_ms"] >= row["started_ms"]
        wait_until_empty(store)
        assert server.admin("PUT", "/v1/tenants/acme", {"name": "new name"}).status == 200
    finally:
        store.remove()


def works_on(server: SeatdProcess, key: str, held: dict[str, Any]) -> dict[str, Any]:
    """Renew one lease; take another and give it back, which is returned."""
    assert renew(server, key, held).status == 200
    taken = acquire(server, key, "bob")
    assert taken.status == 201
    full = acquire(server, key, "cy")
    assert (full.status, full.body["code"]) == (409, "no_seat")
    assert release(server, key, taken.body).status == 204
    return taken.body


def interval_known(server: SeatdProcess, lease: str) -> None:
    deadline = time.monotonic() + 10
    now = int(time.time() * 1000)
    path = f"/v1/tenants/acme/usage?from_ms={now - 3_600_000}&to_ms={now + 3_600_000}&intervals=true"
    while lease not in {row.get("lease") for row in server.admin("GET", path).body["items"]}:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_until_empty(store: ValkeyServer) -> None:
    deadline = time.monotonic() + 10
    with store.client() as client:
        while client.xlen("seatd:{p00}:events"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
