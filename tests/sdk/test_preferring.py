"""The channel in use: preferred where there is one, done without where there is none, and never waited for."""

import asyncio
import time
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from seatd_client import Callbacks, SeatClient, State
from seatd_client.channel import FEATURE
from seatd_client.clock import boottime_ms
from seatd_client.errors import ConnectionFailed, NoSeat
from seatd_client.line import FEATURE as LINE
from seatd_client.preferring import PreferringTransport
from seatd_client.redial import Pauses
from seatd_client.transport import HttpTransport
from seatd_client.wire import Writer

from tests.sdk.scripted import after, never, problem, reply, serving
from tests.sdk.seats import KEY, PATIENCE, Heard, until

SOON = Pauses(first_ms=0, soon_ms=100, most_ms=200, none_ms=200, none_most_ms=400)
FULL = {
    "capacity": 1,
    "in_use": 1,
    "waiting": 1,
    "next_expiry_ms": 0,
    "retry_after_ms": 9_000,
    "place": "p_1",
}


@asynccontextmanager
async def with_a_channel(*more, **options):
    async with serving(**options) as script:
        script.features = [FEATURE, *more]
        yield script


def client_of(script, pauses=SOON, **options):
    transport = PreferringTransport(HttpTransport(script.url, Writer(KEY)), boottime_ms, pauses)
    return SeatClient(script.url, KEY, client="desk", patience=PATIENCE, transport=transport, **options)


@asynccontextmanager
async def connected(script, **options):
    """A client whose channel is open, before any seat is taken."""
    async with client_of(script, **options) as client:
        await until(lambda: client.transport.channel_open)
        yield client


async def test_no_seat_waits_for_a_channel_and_all_use_it_once_it_is_open():
    async with with_a_channel() as script:
        client = client_of(script)
        async with client.seat(user="ana") as seat:
            assert script.ways("acquire") == ["http"]
            await until(lambda: "channel" in script.ways("renew"))
            assert seat.held
        assert script.ways("release") == ["channel"]
        assert script.sockets == []
        async with connected(script) as client, client.seat(user="ana") as seat:
            assert seat.held
        assert script.ways("acquire")[1:] == ["channel"]
        assert script.seen[-1].headers["Authorization"] == f"Bearer {KEY}"


async def test_a_seat_taken_over_http_renews_soon_over_a_socket_that_has_opened():
    async with (
        with_a_channel(ttl_ms=300_000, renew_after_ms=100_000) as script,
        client_of(script).seat(user="ana"),
    ):
        await until(lambda: script.ways("renew") == ["channel"], 6)


@pytest.mark.parametrize(
    ("status", "code", "kind"), [(409, "no_seat", NoSeat), (503, "store_unavailable", None)]
)
async def test_refusals_over_a_channel_are_those_of_http(status, code, kind):
    async with with_a_channel() as script, connected(script) as client:
        script.line_up("acquire", problem(status, code, retry_after_ms=100))
        if kind:
            with pytest.raises(kind):
                await client.seat(user="ana").__aenter__()
        else:
            async with client.seat(user="ana") as seat:
                assert seat.held
        assert set(script.ways("acquire")) == {"channel"}


@pytest.mark.parametrize("reason", ["revoked", "suspended"])
async def test_a_seat_that_the_server_ends_is_lost_at_once(reason):
    heard = Heard()
    async with with_a_channel(ttl_ms=300_000, renew_after_ms=100_000) as script, connected(script) as client:
        async with client.seat(user="ana", callbacks=heard.callbacks) as seat:
            await script.push("revoked", lease="l_other", reason=reason)
            await script.push("revoked", lease="l_1", reason=reason)
            assert await asyncio.wait_for(seat.lost.wait(), 0.5) == reason
            assert (seat.held, seat.state) == (False, State.LOST)
        assert script.ops() == ["acquire", "release"]
    assert heard.told[-1] == ("lost", reason)


async def test_a_takeover_that_is_pushed_is_asked_about():
    async with (
        with_a_channel(ttl_ms=300_000, renew_after_ms=100_000) as script,
        connected(script) as client,
        client.seat(user="ana") as seat,
    ):
        await script.push("revoked", lease="l_1", reason="taken_over")
        await until(lambda: script.ops() == ["acquire", "renew"])
        assert seat.held, "it is another program of this client that lost the lease"
        script.line_up("renew", problem(410, "lease_gone", reason="taken_over"))
        await script.push("revoked", lease="l_1", reason="taken_over")
        assert await asyncio.wait_for(seat.lost.wait(), 1) == "taken_over"


async def test_a_renewal_that_the_server_wants_comes_in_time():
    async with (
        with_a_channel(ttl_ms=300_000, renew_after_ms=100_000) as script,
        connected(script) as client,
        client.seat(user="ana"),
    ):
        await script.push("renew", lease="l_1", within_ms=300)
        await until(lambda: script.ways("renew") == ["channel"], 0.6)
        await script.push("renew", lease="l_other", within_ms=0)
        await script.push("renew", within_ms=300)
        await until(lambda: script.ways("renew") == ["channel"] * 2, 0.6)


async def test_many_seats_share_a_socket_and_renew_in_one_frame():
    async with with_a_channel(ttl_ms=300_000, renew_after_ms=100_000) as script, connected(script) as client:
        seats = [client.seat(user=f"user{at}") for at in range(30)]
        for seat in seats:
            await seat.__aenter__()
        await script.push("renew", within_ms=0)
        await until(lambda: sum(len(body.get("leases", [0])) for body in script.bodies("renew")) == 30)
        assert len(script.bodies("renew")) <= 3
        await asyncio.sleep(0.05)
        assert all(seat.held and seat.error is None for seat in seats)
        assert (script.upgrades, len(script.sockets)) == (1, 1)
        for seat in seats:
            await seat.__aexit__(None, None, None)
    assert script.ops().count("release") == 30


async def test_one_lease_of_a_frame_may_be_gone_without_the_others():
    async with (
        with_a_channel(ttl_ms=300_000, renew_after_ms=100_000) as script,
        connected(script) as client,
        client.seat(user="ana") as ana,
        client.seat(user="bea") as bea,
    ):
        script.line_up("renew", problem(410, "lease_gone", reason="idle"))
        await script.push("renew", within_ms=0)
        await until(lambda: ana.lost.is_set() or bea.lost.is_set())
        await asyncio.sleep(0.05)
        assert ana.held != bea.held
        assert [one.get("leases") is not None for one in script.bodies("renew")] == [True]


async def test_a_lost_socket_costs_no_seat_and_comes_back():
    heard = Heard()
    async with (
        with_a_channel() as script,
        connected(script) as client,
        client.seat(user="ana", callbacks=heard.callbacks) as seat,
    ):
        script.upgrade = raw_upgrade(503)
        await script.sockets[0].close()
        await until(lambda: "http" in script.ways("renew"))
        script.upgrade = None
        await until(lambda: client.transport.channel_open)
        count = len(script.ways("renew"))
        await until(lambda: "channel" in script.ways("renew")[count:])
        assert seat.held
    assert {one for one in heard.told if isinstance(one, tuple)} == set(), "it was never at risk"


def raw_upgrade(status, **headers):
    async def refuse(_request):
        return web.Response(status=status, body=b"<html>", headers=headers)

    return refuse


async def test_a_socket_that_is_cut_with_a_request_under_way_is_made_good_over_http():
    heard = Heard()
    async with (
        with_a_channel(ttl_ms=300_000, renew_after_ms=100_000) as script,
        connected(script) as client,
        client.seat(user="ana", callbacks=heard.callbacks) as seat,
    ):
        script.line_up("renew", never)
        await script.push("renew", within_ms=0)
        await until(lambda: script.ways("renew") == ["channel"])
        script.upgrade = raw_upgrade(404)
        script.sockets[0]._req.transport.abort()
        await until(lambda: script.ways("renew") == ["channel", "http"])
        await until(lambda: seat.state is State.HELD)
    assert script.ways("release") == ["http"]
    assert heard.told[:3] == ["held", "renewing", "held"]


async def _text(request):
    socket = web.WebSocketResponse(protocols=("seatd.v1",))
    await socket.prepare(request)
    await socket.send_str("hello")
    await asyncio.sleep(1)
    return socket


async def _rubbish(request):
    socket = web.WebSocketResponse(protocols=("seatd.v1",))
    await socket.prepare(request)
    await socket.send_bytes(b"\xc1\xc1")
    await asyncio.sleep(1)
    return socket


async def _another_protocol(request):
    socket = web.WebSocketResponse(protocols=("chat",))
    await socket.prepare(request)
    await asyncio.sleep(1)
    return socket


@pytest.mark.parametrize(
    "upgrade",
    [
        raw_upgrade(200),
        raw_upgrade(403),
        raw_upgrade(404),
        raw_upgrade(502),
        raw_upgrade(101, Upgrade="tea", Connection="upgrade"),
        _text,
        _rubbish,
        _another_protocol,
    ],
)
async def test_where_no_channel_gets_through_http_does(upgrade):
    async with with_a_channel() as script:
        script.upgrade = upgrade
        async with client_of(script).seat(user="ana") as seat:
            await until(lambda: script.ways("renew").count("http") >= 3)
            assert seat.held
            assert seat.error is None
        assert set(script.ways("renew")) == {"http"}
        assert 1 <= script.upgrades <= 12, "and it is looked for now and then only"


async def test_a_server_without_channels_is_not_asked_for_one():
    async with serving() as script:
        async with client_of(script).seat(user="ana"):
            await until(lambda: script.ops().count("renew") >= 2)
        assert (script.upgrades, script.abouts > 0) == (0, True)
        script.features = [FEATURE]
        async with SeatClient(script.url, KEY, client="desk", channel=False).seat(user="ana"):
            await until(lambda: script.ops().count("renew") >= 4)
        assert script.upgrades == 0


async def test_the_key_does_not_follow_a_redirect_to_another_server():
    async with serving() as other, with_a_channel() as script:
        seen: list[Any] = []

        async def look(request):
            seen.append(request.headers.copy())
            return web.Response(status=404)

        other.upgrade = look
        script.upgrade = raw_upgrade(302, Location=f"{other.url}/v1/channel")
        async with client_of(script).seat(user="ana"):
            await until(lambda: script.upgrades >= 1)
            await asyncio.sleep(0.1)
        assert all("Authorization" not in headers for headers in seen)


async def test_a_socket_that_died_silently_is_done_without_and_replaced():
    async with (
        with_a_channel(ttl_ms=2_000, renew_after_ms=200) as script,
        connected(script) as client,
        client.seat(user="ana") as seat,
    ):
        await until(lambda: "channel" in script.ways("renew"))
        script.muted = True
        await until(lambda: "http" in script.ways("renew"))
        assert seat.held
        assert not client.transport.channel_open
        script.muted = False
        await until(lambda: script.ways("renew")[-2:] == ["http", "http"], 3)
        await until(lambda: client.transport.channel_open, 8)
        await until(lambda: script.ways("renew")[-1] == "channel")
        assert seat.held
        assert script.upgrades == 2


async def test_drained_clients_connect_elsewhere_before_they_let_go():
    opened = []
    async with with_a_channel(ttl_ms=300_000, renew_after_ms=100_000) as script, connected(script) as client:

        async def upgrade(request):
            opened.append(len(script.sockets))
            return await script.channel(request)

        script.upgrade = upgrade
        async with client.seat(user="ana") as seat:
            [old] = script.sockets
            await script.push("drain", within_ms=500)
            await until(lambda: script.upgrades == 2, 1)
            await until(lambda: script.sockets != [] and old not in script.sockets)
            assert opened == [1], "the old socket was still open when the new one came"
            await until(lambda: script.ways("renew") == ["channel"], 6)
            assert seat.held


async def test_what_was_asked_on_a_drained_socket_is_answered_on_it():
    async with with_a_channel(LINE) as script, connected(script) as client:
        script.line_up("acquire", after(0.8, script.granted))
        taking = asyncio.ensure_future(client.seat(user="ana", wait_s=30).__aenter__())
        await until(lambda: script.ways("acquire") == ["channel"])
        await script.push("drain", within_ms=100)
        await until(lambda: script.upgrades == 2)
        seat = await taking
        assert seat.held
        assert script.ways("acquire") == ["channel"]
        await seat.__aexit__(None, None, None)


async def test_waiting_in_line_over_a_channel():
    told: list[Any] = []
    async with with_a_channel(LINE) as script, connected(script) as client:
        script.line_up("acquire", after(0.8, no_seat(position=1)), after(0.3, script.granted))
        callbacks = Callbacks(on_waiting=told.append)
        async with client.seat(user="ana", wait_s=30, callbacks=callbacks) as seat:
            assert seat.held
        assert script.ways("acquire") == ["channel"] * 2
        assert script.bodies("acquire")[1]["place"] == "p_1"
    assert told[0].position == 1


def no_seat(**fields):
    return lambda: reply({"status": 409, "code": "no_seat", **FULL, **fields}, 409)


async def test_whose_turn_has_come_takes_the_seat_at_once():
    async with with_a_channel(LINE) as script, connected(script) as client:
        script.line_up("acquire", *[after(0, no_seat())] * 5)  # answered at once, so pauses have grown
        taking = asyncio.ensure_future(client.seat(user="ana", wait_s=60).__aenter__())
        await until(lambda: script.ops().count("acquire") == 5)
        await asyncio.sleep(0.05)
        await script.push("granted", user="bea", within_ms=2_000)
        await asyncio.sleep(0.05)
        assert script.ops().count("acquire") == 5
        await script.push("granted", user="ana", client="desk", within_ms=2_000)
        await until(lambda: script.ops().count("acquire") == 6, 0.2)
        assert script.bodies("acquire")[-1]["place"] == "p_1"
        script.line_up("acquire", script_granted(script))
        seat = await asyncio.wait_for(taking, 6)
        await seat.__aexit__(None, None, None)


def script_granted(script):
    async def answer():
        return script.granted()

    return answer


async def test_a_waiter_whose_socket_is_lost_keeps_the_place():
    async with with_a_channel(LINE) as script, connected(script) as client:
        told: list[Any] = []
        script.line_up("acquire", after(0.8, no_seat()), never)
        waiter = client.seat(user="ana", wait_s=60, callbacks=Callbacks(on_waiting=told.append))
        taking = asyncio.ensure_future(waiter.__aenter__())
        await until(lambda: len(script.ops()) == 2)
        script.upgrade = raw_upgrade(503)
        await script.sockets[0].close()
        seat = await asyncio.wait_for(taking, 3)
        assert script.ways("acquire") == ["channel", "channel", "http"]
        assert isinstance(told[-1].error, ConnectionFailed), "not all who waited ask at one instant"
        assert script.bodies("acquire")[2]["place"] == "p_1"
        assert len({body["request_id"] for body in script.bodies("acquire")}) == 1
        await seat.__aexit__(None, None, None)


async def test_who_gives_up_leaves_the_line_and_the_socket_stays():
    async with with_a_channel(LINE) as script, connected(script) as client:
        script.line_up("acquire", never)
        taking = asyncio.ensure_future(client.seat(user="ana", wait_s=60).__aenter__())
        await until(lambda: script.ops() == ["acquire"])
        began = time.monotonic()
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        assert time.monotonic() - began < 0.3
        assert script.ops() == ["acquire", "leave"]
        async with client.seat(user="ana") as seat:
            assert seat.held
        assert (script.upgrades, set(script.ways("acquire"))) == (1, {"channel"})


async def test_a_seat_granted_just_before_the_leaving_is_given_back():
    async with with_a_channel(LINE) as script, connected(script) as client:
        granting = asyncio.Event()

        async def granted_first():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                granting.set()  # the answer goes out before the leaving is answered
            return script.granted()

        script.line_up("acquire", granted_first)
        seat = client.seat(user="ana", wait_s=60)
        taking = asyncio.ensure_future(seat.__aenter__())
        await until(lambda: script.ops() == ["acquire"])
        original = script.frame

        async def frame(request, socket, message, doing):
            if message["op"] == "leave":
                doing[message["of"]].cancel()
                await doing[message["of"]]
            await original(request, socket, message, doing)

        script.frame = frame
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        assert granting.is_set()
        assert script.ops() == ["acquire", "leave", "release"]
        assert not seat.held


async def test_leaving_takes_a_bounded_time_where_the_server_does_not_close():
    async def upgrade(request):
        socket = web.WebSocketResponse(protocols=("seatd.v1",), autoclose=False)
        await socket.prepare(request)
        await asyncio.sleep(30)
        return socket

    async with with_a_channel() as script:
        script.upgrade = upgrade
        client = client_of(script)
        await client.__aenter__()
        await until(lambda: client.transport.channel_open)
        began = time.monotonic()
        await client.__aexit__(None, None, None)
        assert time.monotonic() - began < 1.5


async def test_a_key_that_is_refused_is_not_tried_again_and_again():
    async def upgrade(request):
        socket = web.WebSocketResponse(protocols=("seatd.v1",))
        await socket.prepare(request)
        await socket.close(code=4401, message=b"unauthorized")
        return socket

    async with with_a_channel() as script:
        script.upgrade = upgrade
        async with client_of(script, Pauses(first_ms=0, soon_ms=1, most_ms=2, none_ms=10_000)) as client:
            await asyncio.sleep(0.4)
            assert script.upgrades == 1
            assert not client.transport.channel_open


async def test_a_client_may_be_closed_and_opened_again():
    async with with_a_channel() as script:
        client = client_of(script)
        for times in (1, 2):
            async with client:
                await until(lambda: client.transport.channel_open)
            assert script.upgrades == times
            await until(lambda: script.sockets == [])


async def test_who_comes_while_the_last_one_closes_finds_it_open():
    async with with_a_channel() as script:
        client = client_of(script)
        await client.__aenter__()
        await until(lambda: client.transport.channel_open)
        leaving = asyncio.ensure_future(client.__aexit__(None, None, None))
        await asyncio.sleep(0)
        async with client.seat(user="ana") as seat:
            await leaving
            await until(lambda: client.transport.channel_open)
            assert seat.held
            assert await seat.addon("social")
        assert script.ops()[-1] == "release"
