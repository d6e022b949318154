"""What admin routes do, seen from both listeners: a change is in force when its reply is sent."""

import time
from itertools import pairwise
from typing import Any

from tests.servers import Reply, call
from tests.web.house import House, refused

HOUR_MS = 3_600_000


def renew(house: House, key: str, lease: dict[str, Any]) -> Reply:
    url = f"{house.server.url}/v1/leases/{lease['lease']}/renew"
    return call("POST", url, key=key, body={"receipt": lease["receipt"]})


def pages(house: House, path: str, limit: int) -> list[dict[str, Any]]:
    """All items of a list, gathered in pages of `limit`."""
    items: list[dict[str, Any]] = []
    after = ""
    while True:
        page = house.ok("GET", f"{path}?limit={limit}{after}")
        assert len(page["items"]) <= limit
        items += page["items"]
        if "next" not in page:
            return items
        after = f"&after={page['next']}"


def test_a_put_makes_a_tenant_and_says_how_it_stands(house: House) -> None:
    name = house.new_name()
    said = {"name": "Acme", "customer": "acme-group", "tariff": "team", "seats": 5, "lease_ttl_ms": 5000}
    made = house.admin("PUT", f"/v1/tenants/{name}", said | {"labels": {"site": "Köln"}})
    assert made.status == 201
    view = made.body
    assert view["projected"] is True
    assert (view["tenant"], view["name"], view["customer"]) == (name, "Acme", "acme-group")
    assert (view["tariff"], view["capacity"], view["in_use"], view["bindings"]) == ("team", 5, 0, 0)
    assert (view["lease_ttl_ms"], view["labels"], view["suspended"]) == (5000, {"site": "Köln"}, False)
    assert [(b["product"], b["quantity"], b["state"]) for b in view["bookings"]] == [("team", 5, "in_force")]
    again = house.admin("PUT", f"/v1/tenants/{name}", {})
    assert again.status == 200
    stands = {field: value for field, value in view.items() if field != "booking"}
    assert again.body == stands
    assert house.ok("GET", f"/v1/tenants/{name}") | {"projected": True} == stands


def test_null_and_left_out_are_not_the_same(house: House) -> None:
    name = house.tenant(tariff="team", seats=2)
    until = int(time.time() * 1000) + HOUR_MS
    assert house.ok("PUT", f"/v1/tenants/{name}", {"trial_until_ms": until})["trial"] is True
    assert house.ok("PUT", f"/v1/tenants/{name}", {"name": "x"})["trial_until_ms"] == until
    taken_up = house.ok("PUT", f"/v1/tenants/{name}", {"trial_until_ms": None})
    assert (taken_up["trial"], taken_up["trial_until_ms"], taken_up["tariff"]) == (False, None, "team")
    assert house.ok("PUT", f"/v1/tenants/{name}", {"tariff": None})["tariff"] is None


def test_more_seats_are_there_when_the_reply_is(house: House) -> None:
    name = house.tenant(tariff="team", seats=1)
    key = house.key(name, "client")
    assert house.seat(key, "ana").status == 201
    assert house.seat(key, "ben", "c2").body["code"] == "no_seat"
    booked = house.admin("POST", f"/v1/tenants/{name}/bookings", {"product": "team", "quantity": 2})
    assert (booked.status, booked.body["state"], booked.body["projected"]) == (201, "in_force", True)
    assert house.seat(key, "ben", "c2").status == 201
    view = house.ok("GET", f"/v1/tenants/{name}")
    assert (view["in_use"], view["capacity"]) == (2, 2)


def test_fewer_seats_wait_for_the_month_and_a_later_decision_says_what_it_replaces(house: House) -> None:
    path = f"/v1/tenants/{house.tenant(tariff='team', seats=9)}/bookings"
    less = house.admin("POST", path, {"product": "team", "quantity": 4})
    assert (less.status, less.body["state"]) == (201, "scheduled")
    assert less.body["effective_ms"] > int(time.time() * 1000)
    same = house.admin("POST", path, {"product": "team", "quantity": 4})
    assert (same.status, same.body["id"]) == (200, less.body["id"])
    now = house.admin("POST", path, {"product": "team", "quantity": 6, "effective": "now"})
    assert (now.body["state"], now.body["replaced"]["id"]) == ("in_force", less.body["id"])
    states = [(b["quantity"], b["state"]) for b in house.ok("GET", path)["items"]]
    assert states == [(9, "past"), (4, "cancelled"), (6, "in_force")]


def test_a_suspended_tenant_may_not_work_and_then_may_again(house: House) -> None:
    name = house.tenant(tariff="team", seats=1)
    key = house.key(name, "client")
    lease = house.seat(key, "ana").body
    house.ok("PUT", f"/v1/tenants/{name}", {"suspended": True})
    assert house.seat(key, "ben").body["code"] == "suspended"
    assert renew(house, key, lease).body["reason"] == "suspended"
    (row,) = house.ok("GET", f"/v1/tenants/{name}/leases")["items"]
    assert row["ending"] == "suspended"
    house.ok("PUT", f"/v1/tenants/{name}", {"suspended": False})
    assert house.seat(key, "ben").body["code"] == "no_seat"  # its old holder may still believe in it


def test_names_are_given_up_to_what_is_booked(house: House) -> None:
    name = house.tenant(tariff="agent", seats=2)
    path = f"/v1/tenants/{name}/bindings/agent"
    assert [house.admin("PUT", f"{path}/{user}").status for user in ("ana", "ana", "ben")] == [201, 200, 201]
    refused(house.admin("PUT", f"{path}/cem"), 409, "no_booking_left")
    exceed = {"product": "agent", "quantity": 1, "effective": "now"}
    refused(house.admin("POST", f"/v1/tenants/{name}/bookings", exceed), 409, "bindings_exceed")
    assert [row["user"] for row in house.ok("GET", path)["items"]] == ["ana", "ben"]
    assert house.ok("GET", f"/v1/tenants/{name}")["bindings"] == 2
    assert [house.admin("DELETE", f"{path}/ana").status for _ in range(2)] == [204, 204]
    assert [row["user"] for row in house.ok("GET", path)["items"]] == ["ben"]


def test_a_named_seat_ends_with_its_binding(house: House) -> None:
    name = house.tenant(tariff="agent", seats=1)
    key = house.key(name, "client")
    refused(house.seat(key, "ana"), 403, "not_named")
    house.ok("PUT", f"/v1/tenants/{name}/bindings/agent/ana")
    lease = house.seat(key, "ana").body
    answer = house.admin("DELETE", f"/v1/tenants/{name}/bindings/agent/ana")
    assert (answer.status, answer.headers["Seatd-Projected"]) == (204, None)
    (row,) = house.ok("GET", f"/v1/tenants/{name}/leases")["items"]
    assert (row["user"], row["ending"]) == ("ana", "revoked")
    assert renew(house, key, lease).body["reason"] == "revoked"


def test_an_addon_ends_without_the_seat(house: House) -> None:
    name = house.tenant(tariff="team", seats=1)
    key = house.key(name, "client")
    house.ok("PUT", f"/v1/tenants/{name}/bindings/reporting/ana")
    lease = house.seat(key, "ana").body
    assert lease["addons"] == ["reporting"]
    assert house.admin("DELETE", f"/v1/tenants/{name}/bindings/reporting/ana").status == 204
    assert renew(house, key, lease).status == 200
    url = f"{house.server.url}/v1/leases/{lease['lease']}/addons/reporting"
    refused(call("GET", url, key=key), 403, "addon_not_named")


def test_a_service_user_sits_outside_the_count(house: House) -> None:
    name = house.tenant(tariff="team", seats=1)
    key = house.key(name, "client")
    house.ok("PUT", f"/v1/tenants/{name}/bindings/service/bot")
    lease = house.seat(key, "bot").body
    assert lease["tariff"] == "service"
    assert house.ok("GET", f"/v1/tenants/{name}")["in_use"] == 0
    assert [row["user"] for row in house.ok("GET", f"/v1/tenants/{name}/leases")["items"]] == ["bot"]
    assert house.admin("DELETE", f"/v1/tenants/{name}/bindings/service/bot").status == 204
    assert renew(house, key, lease).body["reason"] == "revoked"


def test_a_switch_ends_the_leases_of_the_other_tariff(house: House) -> None:
    name = house.tenant(tariff="team", seats=2)
    key = house.key(name, "client")
    lease = house.seat(key, "ana").body
    switched = house.ok("POST", f"/v1/tenants/{name}/tariff", {"tariff": "agent", "seats": 7})
    assert (switched["tariff"], switched["capacity"]) == ("agent", 7)
    assert switched["booking"]["product"] == "agent"
    assert renew(house, key, lease).body["reason"] == "tariff_switched"
    refused(house.seat(key, "ben"), 403, "not_named")


def test_a_revoked_lease_ends_but_its_seat_waits(house: House) -> None:
    name = house.tenant(tariff="team", seats=1)
    key = house.key(name, "client")
    lease = house.seat(key, "ana").body
    before = int(time.time() * 1000)
    answer = house.admin("DELETE", f"/v1/tenants/{name}/leases/{lease['lease']}")
    assert answer.status == 200
    assert answer.body | {"free_ms": 0} == {
        "lease": lease["lease"],
        "user": "ana",
        "free_ms": 0,
        "forced": False,
        "hold_ms": 60_000,
    }
    assert answer.body["free_ms"] > before + 60_000
    assert renew(house, key, lease).body["reason"] == "revoked"
    assert house.seat(key, "ben").body["code"] == "no_seat"
    (row,) = house.ok("GET", f"/v1/tenants/{name}/leases")["items"]
    assert row == row | {"lease": lease["lease"], "client": "c1", "tariff": "team", "ending": "revoked"}
    told = house.audit(name)[-1]
    assert (told["action"], told["user"], told["detail"]["forced"]) == ("lease.revoke", "ana", False)


def test_force_frees_the_seat_at_once_and_the_log_says_so(house: House) -> None:
    name = house.tenant(tariff="team", seats=1)
    key = house.key(name, "client")
    lease = house.seat(key, "ana").body["lease"]
    answer = house.admin("DELETE", f"/v1/tenants/{name}/leases/{lease}?force=true")
    assert (answer.status, answer.body["forced"]) == (200, True)
    assert answer.body["free_ms"] <= int(time.time() * 1000) + 50
    assert house.seat(key, "ben").status == 201
    told = house.audit(name)[-1]
    assert (told["action"], told["detail"]["lease"], told["detail"]["forced"]) == (
        "lease.revoke",
        lease,
        True,
    )
    count = len(house.audit(name))
    refused(house.admin("DELETE", f"/v1/tenants/{name}/leases/{lease}?force=true"), 404, "not_found")
    assert len(house.audit(name)) == count


def test_a_lease_of_another_tenant_is_not_found(house: House) -> None:
    name, other = house.tenant(tariff="team", seats=1), house.tenant(tariff="team", seats=1)
    key = house.key(name, "client")
    lease = house.seat(key, "ana").body
    own = house.key(other, "tenant_admin")
    answer = house.admin("DELETE", f"/v1/tenants/{other}/leases/{lease['lease']}", key=own)
    refused(answer, 404, "not_found")
    assert renew(house, key, lease).status == 200


def test_a_key_opens_at_once_and_no_more_once_revoked(house: House) -> None:
    name = house.tenant(tariff="team", seats=1)
    made = house.admin("POST", f"/v1/tenants/{name}/keys", {"scope": "client"})
    assert (made.status, made.headers["Cache-Control"]) == (201, "no-store")
    assert made.body.keys() == {"key", "id", "scope", "projected"}
    lease = house.seat(made.body["key"], "ana").body
    listed = house.ok("GET", f"/v1/tenants/{name}/keys")["items"]
    assert [(k["id"], k["scope"]) for k in listed] == [(made.body["id"], "client")]
    path = f"/v1/tenants/{name}/keys/{made.body['id']}"
    assert [house.admin("DELETE", path).status for _ in range(2)] == [204, 204]
    refused(renew(house, made.body["key"], lease), 401, "unauthorized")
    assert house.ok("GET", f"/v1/tenants/{name}/keys")["items"] == []
    other = house.tenant()
    refused(house.admin("DELETE", f"/v1/tenants/{other}/keys/{made.body['id']}"), 404, "not_found")
    refused(house.admin("DELETE", f"/v1/keys/{made.body['id']}"), 404, "not_found")


def test_a_key_expires(house: House) -> None:
    name = house.tenant()
    soon = int(time.time() * 1000) + 900
    made = house.ok("POST", f"/v1/tenants/{name}/keys", {"scope": "tenant_admin", "expires_ms": soon})
    assert made["expires_ms"] == soon
    assert house.admin("GET", f"/v1/tenants/{name}", key=made["key"]).status == 200
    time.sleep(1)
    refused(house.admin("GET", f"/v1/tenants/{name}", key=made["key"]), 401, "unauthorized")


def test_a_quantity_counts_once(house: House) -> None:
    path = f"/v1/tenants/{house.tenant()}/meter"
    said = {"product": "pages", "quantity": "120.50", "id": "scan-1", "at_ms": 1_700_000_000_000}
    first, again = house.admin("POST", path, said), house.admin("POST", path, said)
    assert (first.status, again.status) == (201, 200)
    assert first.body == again.body == said | {"quantity": "120.5"}
    before = house.dump()
    for other in ({"quantity": "120.6"}, {"at_ms": 1_700_000_000_001}):
        refused(house.admin("POST", path, said | other), 409, "conflict")
    assert house.dump() == before
    whole = house.admin("POST", path, {"product": "pages", "quantity": 999_999_999_999, "id": "scan-2"})
    assert (whole.status, whole.body["quantity"]) == (201, "999999999999")


def test_every_list_comes_whole_in_pages_of_any_size(house: House) -> None:
    name = house.tenant(tariff="team", seats=7)
    key = house.key(name, "client")
    for i in range(5):
        house.ok("POST", f"/v1/tenants/{name}/bookings", {"product": f"p{i}", "quantity": 1})
        house.ok("PUT", f"/v1/tenants/{name}/bindings/p/u{i}")
        house.seat(key, f"u{i}", f"c{i}")
        house.key(name, "client")
        house.key(None, "billing")
    house.ok("PUT", f"/v1/tenants/{name}/bindings/service/bot")
    house.seat(key, "bot", "c9")
    for path in ("bookings", "bindings/p", "leases", "keys"):
        whole = pages(house, f"/v1/tenants/{name}/{path}", 1000)
        assert len(whole) == (5 if path == "bindings/p" else 6)
        for limit in (1, 2, 5, 6):
            assert pages(house, f"/v1/tenants/{name}/{path}", limit) == whole
    assert pages(house, "/v1/keys", 3) == pages(house, "/v1/keys", 1000)
    tenants = [item["tenant"] for item in pages(house, "/v1/tenants", 7)]
    assert tenants == sorted(set(tenants))
    assert name in tenants
    audit = [row["seq"] for row in pages(house, "/v1/audit", 50)]
    assert audit == list(range(1, len(audit) + 1))


def test_the_log_names_who_did_what_and_holds_together(house: House) -> None:
    name = house.tenant(tariff="agent", seats=3)
    made = house.ok("POST", f"/v1/tenants/{name}/keys", {"scope": "tenant_admin"})
    house.ok("PUT", f"/v1/tenants/{name}/bindings/agent/ana", key=made["key"])
    told = house.audit(name)[-1]
    assert (told["actor"], told["action"], told["user"]) == (made["id"], "binding.bind", "ana")
    assert "ana" not in str(told["detail"])
    rows = pages(house, "/v1/audit", 1000)
    assert all(later["prev_hash"] == row["hash"] for row, later in pairwise(rows))


def test_what_stood_already_is_written_nowhere(house: House) -> None:
    name = house.tenant(tariff="agent", seats=3)
    house.ok("PUT", f"/v1/tenants/{name}/bindings/agent/ana")
    before = house.dump()
    for method, tail, body in (
        ("PUT", "", {"name": name, "tariff": "agent", "seats": 3, "suspended": False}),
        ("PATCH", "", {"name": name, "labels": {}}),
        ("POST", "/tariff", {"tariff": "agent", "seats": 3}),
        ("POST", "/bookings", {"product": "agent", "quantity": 3}),
        ("PUT", "/bindings/agent/ana", None),
        ("DELETE", "/bindings/agent/ben", None),
    ):
        assert house.admin(method, f"/v1/tenants/{name}{tail}", body).status in (200, 204)
    assert house.dump() == before
