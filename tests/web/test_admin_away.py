"""Administration while a plane is away: what is written stands, and is in force once the other is back."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.postgres import PostgresServer
from tests.servers import SeatdProcess
from tests.valkey import ValkeyServer
from tests.web.house import House, refused


@pytest.fixture
def store() -> Iterator[ValkeyServer]:
    """A store of the test's own."""
    server = ValkeyServer(appendonly=True)
    server.start()
    yield server
    server.remove()


def within(seconds: float, check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_change_stands_while_the_store_is_away(
    store: ValkeyServer, new_seatd: Callable[..., SeatdProcess]
) -> None:
    server = new_seatd("--store", store.url)
    server.start()
    house = House(server, f"sqlite:///{server.data / 'seatd.db'}")
    name = house.tenant(tariff="agent", seats=1)
    key = house.key(name, "client")
    house.ok("PUT", f"/v1/tenants/{name}/bindings/agent/ana")
    lease = house.seat(key, "ana").body
    store.kill()

    booked = house.admin("POST", f"/v1/tenants/{name}/bookings", {"product": "agent", "quantity": 5})
    assert (booked.status, booked.body["projected"]) == (201, False)
    made = house.admin("PUT", "/v1/tenants/fresh", {"name": "fresh", "tariff": "team", "seats": 1})
    assert (made.status, made.body["projected"], made.body["in_use"]) == (201, False, None)
    unbound = house.admin("DELETE", f"/v1/tenants/{name}/bindings/agent/ana")
    assert (unbound.status, unbound.headers["Seatd-Projected"]) == (204, "false")
    assert {row["in_use"] for row in house.ok("GET", "/v1/tenants")["items"]} == {None}
    audited = len(house.audit(name))
    for force in ("", "?force=true"):
        answer = house.admin("DELETE", f"/v1/tenants/{name}/leases/{lease['lease']}{force}")
        refused(answer, 503, "store_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
    assert len(house.audit(name)) == audited
    refused(house.admin("GET", f"/v1/tenants/{name}/leases"), 503, "store_unavailable")

    store.start()
    renewal = f"/v1/leases/{lease['lease']}/renew"
    within(10, lambda: house.ok("GET", f"/v1/tenants/{name}")["in_use"] is not None)
    within(
        10,
        lambda: (
            server.client("POST", renewal, {"receipt": lease["receipt"]}, key=key).body.get("reason")
            == "revoked"
        ),
    )


def test_the_database_away_is_said_so(
    new_postgres: Callable[[], PostgresServer], new_seatd: Callable[..., SeatdProcess]
) -> None:
    database = new_postgres()
    url = database.empty_database()
    house = House(new_seatd("--database", url).start(), url)
    name = house.tenant(tariff="team", seats=1)
    database.stop()
    for method, path, body in (
        ("GET", f"/v1/tenants/{name}", None),
        ("PUT", f"/v1/tenants/{name}", {"name": "n"}),
        ("DELETE", f"/v1/tenants/{name}/leases/l", None),
    ):
        answer = house.admin(method, path, body, timeout=30)
        refused(answer, 503, "database_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
    database.start()
    within(15, lambda: house.admin("GET", f"/v1/tenants/{name}").status == 200)
