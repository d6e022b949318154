"""The channel of a real seatd: told at once, many seats on one socket, and what a restart costs."""

import asyncio
from contextlib import AsyncExitStack

from seatd_client import Patience, SeatClient
from seatd_client.clock import boottime_ms
from seatd_client.preferring import PreferringTransport
from seatd_client.redial import Pauses
from seatd_client.transport import HttpTransport
from seatd_client.wire import Writer

from tests.sdk.seats import Heard, until

PATIENCE = Patience(acquire_ms=5_000, answer_ms=2_000, release_ms=1_000, pause_ms=100)
SOON = Pauses(first_ms=0, soon_ms=200, most_ms=400)


def client_of(server, key):
    transport = PreferringTransport(HttpTransport(server.url, Writer(key)), boottime_ms, SOON)
    return SeatClient(server.url, key, client="desk", patience=PATIENCE, transport=transport)


def leases(server, tenant):
    return server.admin("GET", f"/v1/tenants/{tenant}/leases").body["items"]


async def test_a_revoked_seat_is_lost_at_once(seatd):
    key = seatd.tenant("channel-revoke", tariff="team", seats=2, lease_ttl_ms=300_000)
    async with client_of(seatd, key) as client:
        await until(lambda: client.transport.channel_open)
        async with client.seat(user="ana") as ana, client.seat(user="bea") as bea:
            seatd.admin("DELETE", f"/v1/tenants/channel-revoke/leases/{ana.grant.lease}")
            assert await asyncio.wait_for(ana.lost.wait(), 1) == "revoked"
            assert bea.held
    assert leases(seatd, "channel-revoke") == [], "who was revoked has said that it stopped"


async def test_a_seat_taken_over_http_is_told_as_well_once_the_channel_is_open(seatd):
    heard = Heard()
    key = seatd.tenant("channel-bind", tariff="team", seats=1, lease_ttl_ms=300_000)
    async with client_of(seatd, key).seat(user="ana", callbacks=heard.callbacks) as seat:
        await until(lambda: heard.told[-2:] == ["renewing", "held"], 8)
        seatd.admin("DELETE", f"/v1/tenants/channel-bind/leases/{seat.grant.lease}")
        assert await asyncio.wait_for(seat.lost.wait(), 1) == "revoked"


async def test_many_seats_live_on_one_socket(seatd):
    key = seatd.tenant("channel-many", tariff="team", seats=50, lease_ttl_ms=2_000)
    async with client_of(seatd, key) as client, AsyncExitStack() as stack:
        await until(lambda: client.transport.channel_open)
        socket = client.transport._socket
        seats = [client.seat(user=f"user{at}") for at in range(50)]
        await asyncio.gather(*[stack.enter_async_context(seat) for seat in seats])
        await asyncio.sleep(3)
        assert all(seat.held for seat in seats)
        assert client.transport._socket is socket
        assert len(leases(seatd, "channel-many")) == 50
    assert leases(seatd, "channel-many") == []


async def test_a_restart_costs_no_seat_and_the_channel_comes_back(new_seatd):
    heard = Heard()
    server = new_seatd()
    await asyncio.to_thread(server.start)
    key = server.tenant("channel-restart", tariff="team", seats=1, lease_ttl_ms=20_000)
    async with client_of(server, key) as client:
        await until(lambda: client.transport.channel_open)
        async with client.seat(user="ana", callbacks=heard.callbacks) as seat:
            for stop in (server.stop, server.kill):
                await asyncio.to_thread(stop)
                assert not client.transport.channel_open
                await asyncio.to_thread(server.start)
                await until(lambda: client.transport.channel_open, 10)
                count = len(heard.told)
                await until(lambda: heard.told[count:][-1:] == ["held"], 10)  # noqa: B023 - called at once
                assert seat.held
    assert leases(server, "channel-restart") == []
