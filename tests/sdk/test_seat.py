"""The asyncio seat: renewal in the background, belief by the clock, a clean way out."""

import asyncio
import time

import aiohttp
import pytest
from seatd_client import Callbacks, SeatClient, State
from seatd_client.clock import boottime_ms
from seatd_client.errors import (
    AddonNotNamed,
    ConnectionFailed,
    InvalidReply,
    NoSeat,
    RateLimited,
    SeatElsewhere,
    StoreUnavailable,
    Unauthorized,
)
from seatd_client.lease import DEADLINE

from tests.sdk.scripted import after, never, problem, raw, serving
from tests.sdk.seats import KEY, Heard, client_of, until


async def test_a_seat_is_taken_renewed_and_given_back():
    heard = Heard()
    async with serving() as script:
        async with client_of(script).seat(user="ana", callbacks=heard.callbacks) as seat:
            assert seat.held
            assert seat.grant is not None
            assert (seat.grant.lease, seat.grant.tariff) == ("l_1", "team")
            await until(lambda: script.ops().count("renew") >= 3)
            assert 0 < seat.left_ms <= 1_981
            assert seat.held
            assert not seat.lost.is_set()
        assert not seat.held
        assert not seat.lost.is_set()
        assert (seat.state, seat.reason) == (State.RELEASED, None)
    assert script.ops() == ["acquire", *["renew"] * (len(script.seen) - 2), "release"]
    assert [body["receipt"] for body in script.bodies("renew")[:3]] == ["r1", "r2", "r3"]
    # The latest that was read: one may have been under way as the seat was left.
    assert script.seen[-1].headers["Seat-Receipt"] in {f"r{script.receipts}", f"r{script.receipts - 1}"}
    assert heard.told[:5] == ["held", "renewing", "held", "renewing", "held"]


async def test_what_is_asked_for_is_sent():
    async with serving() as script:
        client = client_of(script)
        async with client.seat(
            user="ana", addons=["social"], takeover=True, labels={"site": "b"}, request_id="r_1"
        ):
            pass
        async with client.seat(user="ana"):
            pass
    first, second = script.bodies("acquire")
    assert first == {
        "user": "ana",
        "client": "desk",
        "request_id": "r_1",
        "addons": ["social"],
        "takeover": True,
        "labels": {"site": "b"},
    }
    assert set(second) == {"user", "client", "request_id"}
    assert script.seen[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_tries_of_one_acquire_share_a_request_id_and_acquires_do_not():
    async with serving() as script:
        script.line_up("acquire", problem(503, "store_unavailable"), raw(502, b"<html>"), raw(200, b"hello"))
        client = client_of(script)
        async with client.seat(user="ana"), client.seat(user="bea"):
            pass
    ids = [body["request_id"] for body in script.bodies("acquire")]
    assert len(ids) == 5
    assert len(set(ids[:4])) == 1
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(409, "no_seat", NoSeat), (409, "seat_elsewhere", SeatElsewhere), (401, "unauthorized", Unauthorized)],
)
async def test_a_refusal_is_raised_at_once(status, code, kind):
    async with serving() as script:
        script.line_up("acquire", problem(status, code))
        with pytest.raises(kind):
            async with client_of(script).seat(user="ana"):
                raise AssertionError
    assert script.ops() == ["acquire"]


async def test_an_acquire_gives_up_in_time():
    began = time.monotonic()
    async with serving() as script:
        script.always["acquire"] = problem(503, "store_unavailable", retry_after_ms=100)
        with pytest.raises(StoreUnavailable):
            async with client_of(script).seat(user="ana"):
                raise AssertionError
    assert 2 < script.ops().count("acquire") < 25
    assert time.monotonic() - began < 3
    with pytest.raises(ConnectionFailed):
        async with client_of(script).seat(user="ana"):
            raise AssertionError


@pytest.mark.parametrize("reason", ["revoked", "taken_over"])
async def test_a_seat_that_the_server_ends_is_lost_with_its_reason(reason):
    heard = Heard()
    async with serving() as script:
        script.line_up("renew", problem(410, "lease_gone", reason=reason))
        async with client_of(script).seat(user="ana", callbacks=heard.callbacks) as seat:
            assert await seat.lost == reason
            assert seat.lost.is_set()
            assert not seat.held
            assert (seat.state, seat.reason) == (State.LOST, reason)
            await asyncio.sleep(0.3)
            assert script.ops() == ["acquire", "renew"], "a lost seat is not renewed"
    # Who is taken over has nothing to give back; of the revoked the server waits to hear.
    assert script.ops()[2:] == (["release"] if reason == "revoked" else [])
    assert heard.told[-1] == ("lost", reason)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(503, "store_unavailable", retry_after_ms=100), StoreUnavailable),
        (problem(429, "rate_limited", retry_after_ms=60_000), RateLimited),
        (problem(401, "unauthorized"), Unauthorized),
        (raw(200, b"<html>welcome to our hotel"), InvalidReply),
        (raw(302, b"", Location="https://hotel.example/"), InvalidReply),
        (never, ConnectionFailed),
    ],
)
async def test_a_seat_at_risk_recovers_or_is_lost_at_its_deadline(answer, kind):
    heard = Heard()
    async with serving() as script:
        script.line_up("renew", answer)
        async with client_of(script).seat(user="ana", callbacks=heard.callbacks) as seat:
            await until(lambda: len(heard.told) >= 4)
            assert heard.told[:4] == ["held", "renewing", ("at_risk", kind), "held"]
            assert seat.error is None
            script.always["renew"] = answer
            await until(lambda: seat.state is State.AT_RISK)
            assert seat.held
            began, left_s = time.monotonic(), seat.left_ms / 1000
            assert await seat.lost == DEADLINE
            assert left_s - 0.1 < time.monotonic() - began < left_s + 0.2
            assert isinstance(seat.error, kind)
    assert heard.told[-1] == ("lost", DEADLINE)
    assert script.ops()[-1] == "release"


async def test_belief_is_counted_from_before_the_request():
    async with serving(ttl_ms=1_000, renew_after_ms=500) as script:
        script.line_up("acquire", after(0.3, script.granted))
        script.always["renew"] = never
        began = boottime_ms()
        async with client_of(script).seat(user="ana") as seat:
            assert seat.left_ms <= 1_000 * 100 // 101 - 300
            await seat.lost
            assert boottime_ms() - began < 1_000 * 100 // 101 + 100


async def test_an_acquire_that_took_as_long_as_its_ttl_is_confirmed_before_it_is_believed():
    async with serving(ttl_ms=200) as script:
        script.line_up("acquire", after(0.3, script.granted))
        async with client_of(script).seat(user="ana") as seat:
            assert seat.held
            assert script.ops()[:2] == ["acquire", "renew"]


async def test_callbacks_that_fail_or_hang_do_not_harm_the_seat():
    hanging = asyncio.Event()

    async def on_renewing():
        raise ValueError("a fault of the program")

    def on_held():
        raise asyncio.CancelledError

    async def on_lost(reason):
        hanging.set()
        await asyncio.sleep(3_600)

    async with serving() as script:
        callbacks = Callbacks(on_held=on_held, on_renewing=on_renewing, on_lost=on_lost)
        async with client_of(script).seat(user="ana", callbacks=callbacks) as seat:
            await until(lambda: script.ops().count("renew") >= 4)
            assert seat.held
            script.always["renew"] = problem(410, "lease_gone", reason="idle")
            await seat.lost
            await hanging.wait()
            began = time.monotonic()
        assert time.monotonic() - began < 1.5


async def test_a_callback_that_hangs_delays_no_renewal():
    async def on_held():
        await asyncio.sleep(3_600)

    async with serving() as script:
        callbacks = Callbacks(on_held=on_held)
        async with client_of(script).seat(user="ana", callbacks=callbacks) as seat:
            await until(lambda: script.ops().count("renew") >= 4)
            assert seat.held


async def test_addons_are_asked_of_the_server():
    async with serving() as script, client_of(script).seat(user="ana") as seat:
        assert await seat.addon("social") is True
        script.line_up("addon", problem(403, "addon_not_named", product="social"))
        assert await seat.addon("social") is False
        script.line_up("addon", problem(503, "store_unavailable"))
        with pytest.raises(StoreUnavailable):
            await seat.addon("social")
        script.line_up("addon", never)
        with pytest.raises(ConnectionFailed):
            await seat.addon("social")
        assert seat.held


async def test_an_addon_that_is_missing_at_the_acquire_is_raised():
    async with serving() as script:
        script.line_up("acquire", problem(403, "addon_not_named", product="ocr"))
        with pytest.raises(AddonNotNamed) as caught:
            async with client_of(script).seat(user="ana", addons=["ocr"]):
                raise AssertionError
    assert caught.value.product == "ocr"


async def test_the_connection_is_shared_and_closed_by_the_last():
    async with serving() as script:
        client = client_of(script)
        async with client.seat(user="ana"):
            first = client.transport._http._session
            async with client.seat(user="bea"):
                assert client.transport._http._session is first
            assert not first.closed
        assert first.closed
        async with client:
            async with client.seat(user="ana"):
                second = client.transport._http._session
            assert not second.closed
        assert second.closed


async def test_a_session_that_is_given_is_used_and_left_open():
    async with serving() as script, aiohttp.ClientSession() as session:
        async with client_of(script, session=session).seat(user="ana"):
            pass
        assert not session.closed
        assert script.ops() == ["acquire", "release"]


async def test_a_seat_is_entered_once():
    async with serving() as script:
        seat = client_of(script).seat(user="ana")
        async with seat:
            with pytest.raises(RuntimeError):
                await seat.__aenter__()
            assert seat.held
        with pytest.raises(RuntimeError):
            await seat.__aenter__()


async def test_a_transport_that_stumbles_is_a_connection_that_failed():
    class Stumbling:
        def __init__(self, inner):
            self.inner = inner
            self.stumbles = 2

        def __getattr__(self, name):
            return getattr(self.inner, name)

        async def renew(self, lease, receipt):
            if self.stumbles:
                self.stumbles -= 1
                raise KeyError("a fault in the transport")
            return await self.inner.renew(lease, receipt)

    async with serving() as script:
        transport = Stumbling(client_of(script).transport)
        async with client_of(script, transport=transport).seat(user="ana") as seat:
            await until(lambda: script.ops().count("renew") >= 2)
            assert seat.held


async def test_a_reply_without_end_is_not_read():
    async with serving() as script:
        script.line_up("acquire", problem(409, "no_seat", filler="x" * 300_000))
        async with client_of(script).seat(user="ana") as seat:
            assert seat.held
    assert script.ops().count("acquire") == 2


@pytest.mark.parametrize("url", ["", "localhost:8470", "ftp://x", "http://", "unix:///x"])
def test_what_is_no_address_is_told_at_once(url):
    with pytest.raises(ValueError, match="address"):
        SeatClient(url, KEY)


async def test_a_server_may_live_under_a_path():
    async with serving() as script:
        script.url += "/seats/?x=1#y"
        async with client_of(script).seat(user="ana"):
            pass
    assert script.ops() == ["acquire", "release"]
