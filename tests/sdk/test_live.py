"""The SDK against a real seatd: what a program sees of revocation, outage and restart."""

import asyncio
import sys
import time

import jwt
import pytest
from seatd_client import BlockingSeatClient, Callbacks, Patience, SeatClient, State
from seatd_client.errors import (
    ConnectionFailed,
    NoSeat,
    NotNamed,
    RequestIdReused,
    SeatElsewhere,
    Unauthorized,
)
from seatd_client.lease import DEADLINE

from tests.sdk import hold
from tests.sdk.test_hold import POLITE
from tests.servers import call

PATIENCE = Patience(acquire_ms=5_000, answer_ms=2_000, release_ms=1_000, pause_ms=100)


def client_of(server, key, client="desk"):
    return SeatClient(server.url, key, client=client, patience=PATIENCE)


def leases(server, tenant):
    return server.admin("GET", f"/v1/tenants/{tenant}/leases").body["items"]


async def test_a_seat_outlives_its_ttl_while_it_is_held_and_is_free_after(seatd):
    key = seatd.tenant("live-hold", tariff="team", seats=1, lease_ttl_ms=2_000)
    async with client_of(seatd, key).seat(user="ana", labels={"site": "berlin"}) as seat:
        assert seat.grant is not None
        assert (seat.grant.tenant, seat.grant.tariff) == ("live-hold", "team")
        await asyncio.sleep(2.6)
        assert seat.held
        with pytest.raises(NoSeat) as caught:
            await client_of(seatd, key, "other").seat(user="bea").__aenter__()
        assert (caught.value.capacity, caught.value.in_use, caught.value.waiting) == (1, 1, 0)
        assert caught.value.next_expiry_ms > time.time() * 1000
        assert caught.value.retry_after_ms > 0
    assert leases(seatd, "live-hold") == []
    async with client_of(seatd, key, "other").seat(user="bea") as seat:
        assert seat.held


async def test_a_proof_that_was_asked_for_is_at_the_seat(seatd):
    key = seatd.tenant("live-proof", tariff="team", seats=2)

    def blocking():
        client = BlockingSeatClient(seatd.url, key, client="desk", patience=PATIENCE)
        seat = client.seat(user="bea", proof=True)
        assert seat.proof is None
        with seat:
            return seat.proof

    async with client_of(seatd, key).seat(user="ana", proof=True) as seat:
        proofs = {"ana": seat.proof, "bea": await asyncio.to_thread(blocking)}
    async with client_of(seatd, key).seat(user="cem") as seat:
        assert seat.proof is None
    published = jwt.PyJWKSet.from_dict(call("GET", seatd.url + "/v1/jwks").body)
    for user, proof in proofs.items():
        of_proof = published[jwt.get_unverified_header(proof)["kid"]]
        claims = jwt.decode(proof, of_proof, algorithms=["EdDSA"])
        assert (claims["sub"], claims["tenant"], claims["client"]) == (user, "live-proof", "desk")


async def test_a_revoked_seat_is_lost_and_freed_once_the_client_has_stopped(seatd):
    key = seatd.tenant("live-revoke", tariff="team", seats=1, lease_ttl_ms=2_000)
    told: list[str] = []
    async with client_of(seatd, key).seat(user="ana", callbacks=Callbacks(on_lost=told.append)) as seat:
        seatd.admin("DELETE", f"/v1/tenants/live-revoke/leases/{seat.grant.lease}")
        assert await asyncio.wait_for(seat.lost.wait(), 2) == "revoked"
        assert not seat.held
        with pytest.raises(NoSeat):  # until we say that we have stopped, or the lease has run out
            await client_of(seatd, key, "other").seat(user="bea").__aenter__()
    assert told == ["revoked"]
    async with client_of(seatd, key, "other").seat(user="bea") as seat:
        assert seat.held


async def test_a_seat_sits_at_one_client_and_is_taken_over_on_demand(seatd):
    key = seatd.tenant("live-takeover", tariff="team", seats=2, lease_ttl_ms=2_000)
    async with client_of(seatd, key, "desk-1").seat(user="ana") as first:
        with pytest.raises(SeatElsewhere) as caught:
            await client_of(seatd, key, "desk-2").seat(user="ana").__aenter__()
        assert caught.value.client == "desk-1"
        assert caught.value.since_ms == first.grant.started_ms
        async with client_of(seatd, key, "desk-2").seat(user="ana", takeover=True) as second:
            assert await asyncio.wait_for(first.lost.wait(), 2) == "taken_over"
            assert second.held
    # The seat itself stays taken until the first client could no longer believe in it.


async def test_a_second_program_of_the_same_client_takes_the_seat(seatd):
    key = seatd.tenant("live-twice", tariff="team", seats=2, lease_ttl_ms=2_000)
    async with (
        client_of(seatd, key).seat(user="ana") as first,
        client_of(seatd, key).seat(user="ana") as second,
    ):
        assert first.grant.lease == second.grant.lease
        assert await asyncio.wait_for(first.lost.wait(), 2) == "taken_over"
        assert second.held


async def test_a_request_id_gives_one_lease(seatd):
    key = seatd.tenant("live-request", tariff="team", seats=2, lease_ttl_ms=60_000)
    client = client_of(seatd, key)
    first, again = (client.seat(user="ana", request_id="r_1") for _ in range(2))
    async with first, again:
        assert again.grant.lease == first.grant.lease
        with pytest.raises(RequestIdReused):
            await client.seat(user="ana", request_id="r_1", takeover=True).__aenter__()


async def test_named_users_and_addons(seatd):
    key = seatd.tenant("live-agent", tariff="agent", seats=2, lease_ttl_ms=60_000)
    with pytest.raises(NotNamed) as caught:
        await client_of(seatd, key).seat(user="ana").__aenter__()
    assert caught.value.product == "agent"
    for product in ("agent", "social"):
        assert seatd.admin("PUT", f"/v1/tenants/live-agent/bindings/{product}/ana").status == 201
    async with client_of(seatd, key).seat(user="ana") as seat:
        assert (seat.grant.tariff, seat.grant.addons) == ("agent", ("social",))
        assert await seat.addon("social") is True
        assert await seat.addon("recording") is False


async def test_a_foreign_key_is_refused(seatd):
    with pytest.raises(Unauthorized):
        await client_of(seatd, "sc.nobody." + "x" * 43).seat(user="ana").__aenter__()


async def test_the_blocking_twin(seatd):
    key = seatd.tenant("live-blocking", tariff="team", seats=1, lease_ttl_ms=2_000)

    def program():
        client = BlockingSeatClient(seatd.url, key, client="desk", patience=PATIENCE)
        with client.seat(user="ana") as seat:
            assert not seat.lost.wait(2.6)
            assert seat.held
            assert seat.grant is not None
            seatd.admin("DELETE", f"/v1/tenants/live-blocking/leases/{seat.grant.lease}")
            assert seat.lost.wait(3)
            assert seat.reason == "revoked"
        with client.seat(user="bea") as seat:
            assert seat.held

    await asyncio.to_thread(program)


async def test_an_outage_loses_the_seat_before_the_server_gives_it_away(new_seatd):
    server = new_seatd()
    await asyncio.to_thread(server.start)
    key = server.tenant("outage", tariff="team", seats=1, lease_ttl_ms=4_000)
    async with client_of(server, key).seat(user="ana") as seat:
        await asyncio.sleep(1.5)
        server.kill()
        expires_ms = int(time.time() * 1000) + 4_000  # no renewal can have promised more
        while seat.state is not State.AT_RISK:
            await asyncio.sleep(0.01)
        assert seat.held
        assert isinstance(seat.error, ConnectionFailed)
        assert await seat.lost == DEADLINE
        lost_ms = int(time.time() * 1000)
        assert lost_ms < expires_ms
        await asyncio.to_thread(server.start)
        while True:
            wish = {"user": "bea", "client": "other"}
            answer = await asyncio.to_thread(call, "POST", f"{server.url}/v1/leases", key=key, body=wish)
            if answer.status == 201:
                break
            assert answer.body["code"] == "no_seat"
            await asyncio.sleep(0.02)
        assert answer.body["started_ms"] > lost_ms


async def test_a_restart_keeps_the_seat(new_seatd):
    server = new_seatd()
    await asyncio.to_thread(server.start)
    key = server.tenant("restart", tariff="team", seats=1, lease_ttl_ms=15_000)
    states: list[str] = []
    callbacks = Callbacks(
        on_held=lambda: states.append("held"),
        on_at_risk=lambda _error: states.append("at_risk"),
        on_lost=states.append,
    )
    async with client_of(server, key).seat(user="ana", callbacks=callbacks) as seat:
        assert seat.grant is not None
        lease = seat.grant.lease
        assert await asyncio.to_thread(server.stop) == 0
        while "at_risk" not in states:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(server.start)
        while states[-1] != "held":
            assert not seat.lost.is_set()
            await asyncio.sleep(0.02)
        assert [one["lease"] for one in leases(server, "restart")] == [lease]
    assert leases(server, "restart") == []


@pytest.mark.skipif(sys.platform == "win32", reason="speaks of signals")
async def test_hold_ends_its_program_when_the_seat_is_revoked(seatd):
    key = seatd.tenant("live-command", tariff="team", seats=1, lease_ttl_ms=2_000)
    line = ["--client", "desk", "--", sys.executable, "-c", POLITE]
    process = await hold.start(seatd.url, *line, SEATD_CLIENT_KEY=key)
    await process.stdout.readline()
    refused = await hold.run(seatd.url, *line, user="bea", SEATD_CLIENT_KEY=key)
    assert refused == (75, "", "seatd: every seat is taken (1 of 1)\n")
    [sitting] = leases(seatd, "live-command")
    seatd.admin("DELETE", f"/v1/tenants/live-command/leases/{sitting['lease']}")
    code, out, err = await hold.ended(process)
    assert (code, out) == (69, "ended by 15\n")
    assert "revoked" in err
    assert (await hold.run(seatd.url, "--client", "desk", "--", "true", user="bea", SEATD_CLIENT_KEY=key))[
        0
    ] == 0
