"""The seat flow over HTTP against a real server: grants, refusals and their fields, in both encodings."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest

from tests.servers import SeatdProcess

ENCODINGS = pytest.mark.parametrize("msg", [False, True], ids=["json", "msgpack"])


def acquire(server: SeatdProcess, key: str, user: str, client: str = "desk-1", *, msg: bool = False, **more):
    return server.client("POST", "/v1/leases", {"user": user, "client": client, **more}, key=key, msg=msg)


def renew(server: SeatdProcess, key: str, lease: dict[str, Any], *, msg: bool = False):
    path = f"/v1/leases/{lease['lease']}/renew"
    return server.client("POST", path, {"receipt": lease["receipt"]}, key=key, msg=msg)


def release(server: SeatdProcess, key: str, lease: dict[str, Any]):
    path = f"/v1/leases/{lease['lease']}"
    return server.client("DELETE", path, key=key, headers={"Seat-Receipt": lease["receipt"]})


def in_use(server: SeatdProcess, tenant: str) -> int:
    return server.admin("GET", f"/v1/tenants/{tenant}").body["in_use"]


@ENCODINGS
def test_a_lease_is_taken_renewed_and_freed(seatd: SeatdProcess, msg: bool):
    tenant = f"life-{msg}"
    key = seatd.tenant(tenant, tariff="team", seats=1)
    taken = acquire(seatd, key, "ana", msg=msg, request_id="r1")
    assert taken.status == 201
    assert list(taken.body) == [
        "lease", "tenant", "user", "client", "tariff", "addons", "started_ms", "expires_ms", "ttl_ms",
        "renew_after_ms", "receipt",
    ]  # fmt: skip
    assert taken.body["tariff"] == "team"
    assert taken.body["ttl_ms"] == 300_000
    assert taken.body["expires_ms"] == taken.body["started_ms"] + 300_000
    again = renew(seatd, key, taken.body, msg=msg)
    assert again.status == 200
    assert list(again.body) == ["lease", "expires_ms", "ttl_ms", "renew_after_ms", "receipt"]
    assert again.body["expires_ms"] >= taken.body["expires_ms"]
    assert in_use(seatd, tenant) == 1
    assert release(seatd, key, again.body).status == 204
    assert release(seatd, key, again.body).status == 204
    assert in_use(seatd, tenant) == 0
    gone = renew(seatd, key, again.body, msg=msg)
    assert (gone.status, gone.body["code"], gone.body["reason"]) == (410, "lease_gone", "released")


@ENCODINGS
def test_a_full_tenant_says_how_full_and_until_when(seatd: SeatdProcess, msg: bool):
    key = seatd.tenant(f"full-{msg}", tariff="team", seats=1)
    first = acquire(seatd, key, "ana").body
    refused = acquire(seatd, key, "bob", msg=msg)
    assert refused.status == 409
    problem = refused.body
    assert problem["code"] == "no_seat"
    assert {"type", "title", "status", "code", "detail"} <= problem.keys()
    assert (problem["capacity"], problem["in_use"], problem["waiting"]) == (1, 1, 0)
    assert problem["next_expiry_ms"] == first["expires_ms"]
    assert problem["retry_after_ms"] > 0


def test_a_seat_is_not_shared_by_two_desktops(seatd: SeatdProcess):
    key = seatd.tenant("desks", tariff="team", seats=2)
    first = acquire(seatd, key, "ana", "desk-1").body
    elsewhere = acquire(seatd, key, "ana", "desk-2")
    assert (elsewhere.status, elsewhere.body["code"], elsewhere.body["client"]) == (
        409,
        "seat_elsewhere",
        "desk-1",
    )
    assert elsewhere.body["since_ms"] == first["started_ms"]
    moved = acquire(seatd, key, "ana", "desk-2", takeover=True)
    assert moved.status == 201
    assert moved.body["lease"] != first["lease"]
    lost = renew(seatd, key, first)
    assert (lost.status, lost.body["reason"]) == (410, "taken_over")
    assert in_use(seatd, "desks") == 1


def test_a_request_id_gives_one_lease_and_spoils_no_receipt(seatd: SeatdProcess):
    key = seatd.tenant("idem", tariff="team", seats=5)
    first = acquire(seatd, key, "ana", request_id="r1")
    second = acquire(seatd, key, "ana", request_id="r1")
    assert (first.status, second.status) == (201, 200)
    assert second.body["lease"] == first.body["lease"]
    assert renew(seatd, key, first.body).status == 200
    other = acquire(seatd, key, "ana", request_id="r1", labels={"site": "Köln"})
    assert (other.status, other.body["code"]) == (409, "request_id_reused")
    third = acquire(seatd, key, "ana", request_id="r2")
    assert third.body["lease"] == first.body["lease"]
    assert third.body["started_ms"] > first.body["started_ms"]
    assert renew(seatd, key, second.body).body["reason"] == "taken_over"


def test_a_named_seat_needs_a_name(seatd: SeatdProcess):
    key = seatd.tenant("named", tariff="agent", seats=2)
    refused = acquire(seatd, key, "ana")
    assert (refused.status, refused.body["code"], refused.body["product"]) == (403, "not_named", "agent")
    assert seatd.admin("PUT", "/v1/tenants/named/bindings/agent/ana").status == 201
    taken = acquire(seatd, key, "ana")
    assert (taken.status, taken.body["tariff"]) == (201, "agent")
    assert seatd.admin("DELETE", "/v1/tenants/named/bindings/agent/ana").status == 204
    lost = renew(seatd, key, taken.body)
    assert (lost.status, lost.body["reason"]) == (410, "revoked")


def test_addons_go_to_those_who_are_named(seatd: SeatdProcess):
    key = seatd.tenant("addons", tariff="team", seats=2)
    seatd.admin("PUT", "/v1/tenants/addons/bindings/social/ana")
    taken = acquire(seatd, key, "ana").body
    assert taken["addons"] == ["social"]
    path = f"/v1/leases/{taken['lease']}/addons"
    named = seatd.client("GET", f"{path}/social", key=key)
    assert (named.status, named.body) == (200, {"product": "social", "user": "ana"})
    assert seatd.client("GET", f"{path}/crm", key=key).body["code"] == "addon_not_named"
    refused = acquire(seatd, key, "bob", addons=["social"])
    assert (refused.status, refused.body["code"], refused.body["product"]) == (
        403,
        "addon_not_named",
        "social",
    )
    assert acquire(seatd, key, "bob", addons=[]).body["addons"] == []
    unknown = seatd.client("GET", "/v1/leases/nothing/addons/social", key=key)
    assert (unknown.status, unknown.body["reason"]) == (410, "unknown")


@ENCODINGS
def test_every_client_route_speaks_both_encodings(seatd: SeatdProcess, msg: bool):
    key = seatd.tenant(f"tongues-{msg}", tariff="team", seats=1)
    seatd.admin("PUT", f"/v1/tenants/tongues-{msg}/bindings/social/ana")
    good, bad = ("application/msgpack",) * 2 if msg else ("application/json", "application/problem+json")
    about = seatd.client("GET", "/v1", msg=msg)
    assert (about.status, about.headers["Content-Type"].split(";")[0]) == (200, good)
    assert list(about.body) == ["version", "features"]
    lease = acquire(seatd, key, "ana", msg=msg).body
    path = f"/v1/leases/{lease['lease']}"
    addon = seatd.client("GET", f"{path}/addons/social", key=key, msg=msg)
    assert (addon.status, addon.headers["Content-Type"], list(addon.body.items())) == (
        200,
        good,
        [("product", "social"), ("user", "ana")],
    )
    refusals = [
        (seatd.client("GET", f"{path}/addons/crm", key=key, msg=msg), 403, "addon_not_named"),
        (seatd.client("POST", "/v1/leases", {"user": "bob"}, key=key, msg=msg), 400, "invalid_request"),
        (seatd.client("POST", f"{path}/renew", {"receipt": "x"}, key=key, msg=msg), 400, "receipt_invalid"),
        (seatd.client("DELETE", path, key=key, msg=msg), 400, "invalid_request"),
        (seatd.client("DELETE", path, msg=msg), 401, "unauthorized"),
        (seatd.client("PUT", "/v1/leases", key=key, msg=msg), 405, "method_not_allowed"),
        (seatd.client("GET", "/v1/nothing", key=key, msg=msg), 404, "not_found"),
        (acquire(seatd, key, "bob", msg=msg), 409, "no_seat"),
    ]
    for answer, status, code in refusals:
        assert (answer.status, answer.body["status"], answer.body["code"]) == (status, status, code)
        assert answer.headers["Content-Type"].split(";")[0] == bad
    freed = seatd.client("DELETE", path, key=key, msg=msg, headers={"Seat-Receipt": lease["receipt"]})
    assert (freed.status, freed.raw) == (204, b"")


def test_service_users_need_no_seat(seatd: SeatdProcess):
    key = seatd.tenant("service", tariff="team", seats=1)
    seatd.admin("PUT", "/v1/tenants/service/bindings/service/vendor")
    assert acquire(seatd, key, "ana").status == 201
    helper = acquire(seatd, key, "vendor")
    assert (helper.status, helper.body["tariff"]) == (201, "service")
    assert in_use(seatd, "service") == 1


def test_a_switch_ends_the_leases_of_the_old_tariff(seatd: SeatdProcess):
    key = seatd.tenant("switch", tariff="team", seats=3)
    held = acquire(seatd, key, "ana").body
    assert seatd.admin("POST", "/v1/tenants/switch/tariff", {"tariff": "agent", "seats": 2}).status in (
        200,
        201,
    )
    lost = renew(seatd, key, held)
    assert (lost.status, lost.body["reason"]) == (410, "tariff_switched")
    assert acquire(seatd, key, "bob").body["code"] == "not_named"


def test_a_suspended_tenant_may_not_work(seatd: SeatdProcess):
    key = seatd.tenant("susp", tariff="team", seats=3)
    held = acquire(seatd, key, "ana").body
    seatd.admin("PUT", "/v1/tenants/susp", {"suspended": True})
    assert renew(seatd, key, held).body["reason"] == "suspended"
    refused = acquire(seatd, key, "bob")
    assert (refused.status, refused.body["code"]) == (403, "suspended")
    assert refused.body["since_ms"] > 0
    seatd.admin("PUT", "/v1/tenants/susp", {"suspended": False})
    assert acquire(seatd, key, "bob").status == 201
    assert renew(seatd, key, held).body["reason"] == "suspended"


def test_a_revoked_lease_is_final_and_its_seat_waits_for_its_client(seatd: SeatdProcess):
    key = seatd.tenant("revoke", tariff="team", seats=1)
    held = acquire(seatd, key, "ana").body
    assert seatd.admin("DELETE", f"/v1/tenants/revoke/leases/{held['lease']}").status in (200, 204)
    assert renew(seatd, key, held).body["reason"] == "revoked"
    assert acquire(seatd, key, "ana").status == 409
    assert acquire(seatd, key, "bob").body["code"] == "no_seat"
    assert release(seatd, key, held).status == 204  # its client has stopped
    assert acquire(seatd, key, "bob").status == 201


def test_a_revoked_user_waits_as_the_setting_or_the_word_says(seatd: SeatdProcess):
    key = seatd.tenant("holds", tariff="team", seats=2)
    held = acquire(seatd, key, "ana").body
    answer = seatd.admin("DELETE", f"/v1/tenants/holds/leases/{held['lease']}?force=true")
    assert (answer.status, answer.body["hold_ms"]) == (200, 60_000)
    refused = acquire(seatd, key, "ana")
    assert (refused.status, refused.body["code"], refused.body["reason"]) == (409, "conflict", "revoked")
    assert 50_000 < refused.body["retry_after_ms"] <= 60_000
    other = acquire(seatd, key, "bob").body
    path = f"/v1/tenants/holds/leases/{other['lease']}?force=true&hold_ms="
    bad = seatd.admin("DELETE", path + "86400001")
    assert (bad.status, bad.body["errors"][0]["field"]) == (400, "hold_ms")
    assert seatd.admin("DELETE", path + "0").body["hold_ms"] == 0
    assert acquire(seatd, key, "bob").status == 201


def test_200_at_once_for_50_seats(seatd: SeatdProcess):
    key = seatd.tenant("rush", tariff="team", seats=50, lease_ttl_ms=2000)

    async def rush() -> list[tuple[int, dict[str, Any]]]:
        headers = {"Authorization": f"Bearer {key}"}
        sessions = [aiohttp.ClientSession(headers=headers) for _ in range(4)]
        try:

            async def one(i: int) -> tuple[int, dict[str, Any]]:
                body = {"user": f"u{i}", "client": f"c{i}"}
                async with sessions[i % 4].post(f"{seatd.url}/v1/leases", json=body) as answer:
                    return answer.status, await answer.json(content_type=None)

            return await asyncio.gather(*(one(i) for i in range(200)))
        finally:
            for session in sessions:
                await session.close()

    answers = asyncio.run(rush())
    granted = [body for status, body in answers if status == 201]
    refused = [body for status, body in answers if status == 409]
    assert (len(granted), len(refused)) == (50, 150)
    assert {(b["code"], b["capacity"], b["in_use"]) for b in refused} == {("no_seat", 50, 50)}
    assert in_use(seatd, "rush") == 50
    with ThreadPoolExecutor(4) as pool:  # half give back, half just go
        list(pool.map(lambda lease: release(seatd, key, lease), granted[:25]))
    assert in_use(seatd, "rush") == 25
    time.sleep(max(lease["expires_ms"] for lease in granted) / 1000 + 0.6 - time.time())
    assert in_use(seatd, "rush") == 0
    assert acquire(seatd, key, "late").status == 201


def test_an_abandoned_seat_is_free_after_ttl_and_q_and_ends_in_the_ledger_at_its_expiry(seatd: SeatdProcess):
    key = seatd.tenant("ghost", tariff="team", seats=1, lease_ttl_ms=2000)
    ghost = acquire(seatd, key, "ana").body
    time.sleep(ghost["expires_ms"] / 1000 - time.time() + 0.2)
    assert acquire(seatd, key, "bob").body["code"] == "no_seat"  # Q has not passed
    time.sleep(0.5)
    assert acquire(seatd, key, "bob").status == 201
    row = interval(seatd, "ghost", ghost["lease"])
    assert row["ended_ms"] == ghost["expires_ms"]


def interval(server: SeatdProcess, tenant: str, lease: str) -> dict[str, Any]:
    """The lease's row in the ledger, once the recorder has written its end."""
    deadline = time.monotonic() + 10
    while True:
        now = int(time.time() * 1000)
        path = f"/v1/tenants/{tenant}/usage?from_ms={now - 3_600_000}&to_ms={now + 3_600_000}&intervals=true"
        rows = [row for row in server.admin("GET", path).body["items"] if row.get("lease") == lease]
        if rows and rows[0].get("ended_ms"):
            assert len(rows) == 1
            return rows[0]
        assert time.monotonic() < deadline, rows
        time.sleep(0.1)
