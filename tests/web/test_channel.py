"""The channel on a real server: frames, answers in any order, pushes, and what closes it."""

import asyncio
import time
from typing import Any

import aiohttp
import msgpack
import pytest

from tests.servers import SeatdProcess, call
from tests.web.channels import SUBPROTOCOL, line, lines
from tests.web.house import House


@pytest.fixture
def home(sqlite_house: House) -> House:
    return sqlite_house


def team(home: House, seats: int = 5, **fields: Any) -> tuple[str, str]:
    """A tenant and a client key of it."""
    tenant = home.tenant(tariff="team", seats=seats, **fields)
    return tenant, home.key(tenant, "client")


async def test_a_seat_is_taken_renewed_and_given_back(home):
    tenant, key = team(home)
    async with line(home.server.url, key) as desk:
        lease = await desk.ok("acquire", user="ana", client="c1")
        assert (lease["tenant"], lease["user"], lease["client"], lease["tariff"]) == (
            tenant,
            "ana",
            "c1",
            "team",
        )
        renewed = await desk.ok("renew", lease=lease["lease"], receipt=lease["receipt"])
        assert renewed.keys() == {"lease", "expires_ms", "ttl_ms", "renew_after_ms", "receipt"}
        assert renewed["expires_ms"] >= lease["expires_ms"]
        assert home.ok("GET", f"/v1/tenants/{tenant}")["in_use"] == 1
        assert await desk.ok("release", lease=lease["lease"], receipt=renewed["receipt"]) == {}
        assert home.ok("GET", f"/v1/tenants/{tenant}")["in_use"] == 0
        gone = await desk.refused("renew", lease=lease["lease"], receipt=renewed["receipt"])
        assert (gone["status"], gone["code"], gone["reason"]) == (410, "lease_gone", "released")


async def test_a_list_is_answered_in_its_order_and_each_lease_for_itself(home):
    _, key = team(home, seats=10)
    async with line(home.server.url, key) as desk:
        taken = [await desk.ok("acquire", user=f"u{n}", client="c1") for n in range(4)]
        await desk.ok("release", lease=taken[1]["lease"], receipt=taken[1]["receipt"])
        pairs = [[each["lease"], each["receipt"]] for each in taken]
        pairs += [[taken[0]["lease"], "nonsense"], [taken[2]["lease"], taken[3]["receipt"]]]
        items = await desk.ok("renew", leases=pairs)
        assert [item.get("lease") or item["error"]["code"] for item in items] == [
            taken[0]["lease"],
            "lease_gone",
            taken[2]["lease"],
            taken[3]["lease"],
            "receipt_invalid",
            "receipt_invalid",
        ]
        assert await desk.ok("renew", leases=[]) == []


async def test_256_leases_travel_in_one_frame_and_257_do_not(home):
    _, key = team(home, seats=300)
    async with line(home.server.url, key) as desk:
        ids = [await desk.send("acquire", user=f"u{n}", client="c1") for n in range(256)]
        taken = [(await desk.answer(each))["ok"] for each in ids]
        pairs = [[each["lease"], each["receipt"]] for each in taken]
        items = await desk.ok("renew", leases=pairs)
        assert [item["lease"] for item in items] == [lease for lease, _ in pairs]
        refused = await desk.refused("renew", leases=[*pairs, pairs[0]])
        assert (refused["code"], refused["errors"][0]["field"]) == ("invalid_request", "leases")


async def test_refusals_are_problems_as_over_http(home):
    _, key = team(home, seats=1)
    async with line(home.server.url, key) as desk:
        await desk.ok("acquire", user="ana", client="c1")
        full = await desk.refused("acquire", user="bob", client="c1")
        assert (full["status"], full["code"], full["capacity"], full["in_use"]) == (409, "no_seat", 1, 1)
        elsewhere = await desk.refused("acquire", user="ana", client="c2")
        assert (elsewhere["code"], elsewhere["client"]) == ("seat_elsewhere", "c1")
        assert (await desk.ok("acquire", user="ana", client="c2", takeover=True))["client"] == "c2"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"op": "dance"}, "op"),
        ({}, "op"),
        ({"op": "acquire", "user": "ana"}, "client"),
        ({"op": "acquire", "user": "", "client": "c"}, "user"),
        ({"op": "acquire", "user": "ana", "client": "c", "extra": 1}, "extra"),
        ({"op": "renew", "lease": "x"}, "leases"),
        ({"op": "renew", "lease": "x", "receipt": "y", "leases": []}, "leases"),
        ({"op": "renew", "leases": [["x"]]}, "leases[0]"),
        ({"op": "renew", "lease": "x", "receipt": 7}, "receipt"),
        ({"op": "release", "lease": "x"}, "receipt"),
        ({"op": "leave"}, "of"),
    ],
)
async def test_a_frame_that_does_not_fit_is_answered_and_the_socket_goes_on(home, fields, field):
    _, key = team(home)
    async with line(home.server.url, key) as desk:
        await desk.socket.send_bytes(msgpack.packb({"id": "a-name", **fields}))
        problem = (await desk.answer("a-name"))["error"]
        assert (problem["status"], problem["code"]) == (400, "invalid_request")
        assert problem["errors"][0]["field"].startswith(field), problem
        assert await desk.ok("acquire", user="ana", client="c1")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x93\x01\x02\x03",
        msgpack.packb({"op": "renew"}),
        msgpack.packb({"id": -1, "op": "renew"}),
    ],
)
async def test_a_frame_that_nobody_could_be_answered_for_closes_the_socket(home, raw):
    _, key = team(home)
    async with line(home.server.url, key) as desk:
        await desk.socket.send_bytes(raw)
        assert await desk.closed() == 4400


async def test_text_and_what_is_too_long_close_the_socket(home):
    _, key = team(home)
    async with line(home.server.url, key) as desk:
        await desk.socket.send_str("{}")
        assert await desk.closed() == 1003
    async with line(home.server.url, key) as desk:
        await desk.socket.send_bytes(bytes(400_000))
        assert await desk.closed() == 1009


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [(None, 401, "unauthorized"), ("sc.nobody.aaaa", 401, "unauthorized"), ("admin", 403, "forbidden")],
)
async def test_a_key_that_does_not_open_gets_no_channel(home, key, status, code):
    key = home.server.admin_key if key == "admin" else key
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with line(home.server.url, key):
            pass
    assert caught.value.status == status


def test_what_is_no_handshake_is_a_problem(home):
    _, key = team(home)
    url = f"{home.server.url}/v1/channel"
    plain = call("GET", url, key=key)
    assert (plain.status, plain.body["code"]) == (400, "invalid_request")
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    other = call("GET", url, key=key, headers=upgrade | {"Sec-WebSocket-Protocol": "other.v1"})
    assert (other.status, other.body["errors"][0]["field"]) == (400, "Sec-WebSocket-Protocol")
    old = upgrade | {"Sec-WebSocket-Protocol": SUBPROTOCOL, "Sec-WebSocket-Version": "3"}
    assert call("GET", url, key=key, headers=old).body["errors"][0]["field"] == "Upgrade"


async def test_a_closed_socket_gives_nothing_back(home):
    tenant, key = team(home)
    async with line(home.server.url, key) as desk:
        lease = await desk.ok("acquire", user="ana", client="c1")
    assert home.ok("GET", f"/v1/tenants/{tenant}")["in_use"] == 1
    async with line(home.server.url, key) as desk:
        assert await desk.ok("renew", lease=lease["lease"], receipt=lease["receipt"])


async def test_who_is_revoked_is_told_at_once(home):
    tenant, key = team(home)
    async with line(home.server.url, key) as desk, line(home.server.url, key) as other:
        lease = await desk.ok("acquire", user="ana", client="c1")
        theirs = await other.ok("acquire", user="bob", client="c1")
        began = time.monotonic()
        await asyncio.to_thread(home.ok, "DELETE", f"/v1/tenants/{tenant}/leases/{lease['lease']}")
        push = await desk.push()
        assert push == {"push": "revoked", "lease": lease["lease"], "reason": "revoked"}
        assert time.monotonic() - began < 2
        gone = await desk.refused("renew", lease=lease["lease"], receipt=lease["receipt"])
        assert gone["reason"] == "revoked"
        assert await other.ok("renew", lease=theirs["lease"], receipt=theirs["receipt"])
        assert other.pushes == []


async def test_a_lease_is_told_of_where_it_was_renewed_last(home):
    tenant, key = team(home)
    async with line(home.server.url, key) as first, line(home.server.url, key) as second:
        lease = await first.ok("acquire", user="ana", client="c1")
        await second.ok("renew", leases=[[lease["lease"], lease["receipt"]]])
        await asyncio.to_thread(home.ok, "DELETE", f"/v1/tenants/{tenant}/leases/{lease['lease']}")
        assert (await second.push())["lease"] == lease["lease"]
        with pytest.raises(TimeoutError):
            await first.message(0.3)


async def test_the_end_of_a_tariff_asks_its_tenant_to_renew(home):
    tenant, key = team(home)
    _, other_key = team(home)
    async with line(home.server.url, key) as desk, line(home.server.url, other_key) as other:
        lease = await desk.ok("acquire", user="ana", client="c1")
        await asyncio.to_thread(home.ok, "PUT", f"/v1/tenants/{tenant}", {"suspended": True})
        push = await desk.push()
        assert push["push"] == "renew"
        assert push["within_ms"] >= 1_000
        gone = await desk.refused("renew", lease=lease["lease"], receipt=lease["receipt"])
        assert gone["reason"] == "suspended"
        with pytest.raises(TimeoutError):
            await other.message(0.3)


@pytest.mark.parametrize("idle", [True, False])
async def test_a_key_that_is_revoked_closes_its_sockets(home, idle):
    tenant, key = team(home)
    made = home.ok("POST", f"/v1/tenants/{tenant}/keys", {"scope": "client"})
    async with line(home.server.url, made["key"]) as desk, line(home.server.url, key) as other:
        lease = await desk.ok("acquire", user="ana", client="c1")
        await asyncio.to_thread(home.ok, "DELETE", f"/v1/tenants/{tenant}/keys/{made['id']}")
        if not idle:
            await desk.send("renew", lease=lease["lease"], receipt=lease["receipt"])
        assert await desk.closed() == 4401
        # The seat is its user's still, by another key.
        assert await other.ok("renew", lease=lease["lease"], receipt=lease["receipt"])


async def test_a_key_that_runs_out_closes_the_socket_at_its_next_frame(home):
    tenant, _ = team(home)
    key = home.key(tenant, "client", expires_ms=int(time.time() * 1000) + 1_500)
    async with line(home.server.url, key) as desk:
        lease = await desk.ok("acquire", user="ana", client="c1")
        await asyncio.sleep(1.6)
        frame = await desk.send("renew", leases=[[lease["lease"], lease["receipt"]]] * 2)
        items = (await desk.answer(frame))["ok"]
        assert {item["error"]["code"] for item in items} == {"unauthorized"}
        assert await desk.closed() == 4401


async def test_many_frames_under_way_are_all_answered(home):
    _, key = team(home, seats=50)
    async with line(home.server.url, key) as desk:
        taken = [await desk.ok("acquire", user=f"u{n}", client="c1") for n in range(20)]
        ids = {}
        for round_ in range(150):
            lease = taken[round_ % 20]
            ids[await desk.send("renew", lease=lease["lease"], receipt=lease["receipt"])] = lease["lease"]
            if round_ % 10 == 0:
                ids[await desk.send("acquire", user=f"v{round_}", client="c1")] = None
        for frame_id, lease_id in ids.items():
            answer = await desk.answer(frame_id)
            assert lease_id is None or answer["ok"]["lease"] == lease_id


async def test_a_ping_is_answered(home):
    _, key = team(home)
    async with line(home.server.url, key, autoping=False) as desk:
        await desk.socket.ping(b"there?")
        got = await desk.socket.receive(timeout=5)
        assert (got.type, got.data) == (aiohttp.WSMsgType.PONG, b"there?")


async def test_a_thousand_sockets_renew_side_by_side(home):
    _, key = team(home, seats=1_000)
    async with lines(home.server.url, key, 1_000) as desks:
        taken = await asyncio.gather(
            *(desk.ok("acquire", user=f"u{n}", client="c1") for n, desk in enumerate(desks))
        )
        assert len({lease["lease"] for lease in taken}) == 1_000
        renewed = await asyncio.gather(
            *(
                desk.ok("renew", lease=lease["lease"], receipt=lease["receipt"])
                for desk, lease in zip(desks, taken, strict=True)
            )
        )
        assert [each["lease"] for each in renewed] == [each["lease"] for each in taken]
        shown = call("GET", f"{home.server.internal_url}/metrics").raw.decode()
        assert "seatd_channels 1000.0" in shown


def test_the_server_says_that_it_has_channels(seatd: SeatdProcess):
    assert "channel" in call("GET", f"{seatd.url}/v1").body["features"]
