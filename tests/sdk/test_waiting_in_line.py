"""Waiting in line over HTTP: the place is kept, the program told, the way out clean."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from seatd_client import BlockingSeatClient, Callbacks, NoSeat
from seatd_client.errors import ConnectionFailed
from seatd_client.line import FEATURE

from tests.sdk import hold
from tests.sdk.scripted import after, never, problem, reply, serving
from tests.sdk.seats import KEY, PATIENCE, client_of, until

FIELDS = {"capacity": 1, "in_use": 1, "waiting": 2, "next_expiry_ms": 10**12, "retry_after_ms": 1_000}


def in_line(place, position=2, after_s=0.0, **fields):
    """Answer that there is no seat, as late as a poll would be."""
    said = {"status": 409, "code": "no_seat", **FIELDS, "place": place, "position": position, **fields}
    return after(after_s, lambda: reply(said, 409))


@asynccontextmanager
async def with_a_line(**options):
    async with serving(**options) as script:
        script.features = [FEATURE]
        yield script


async def test_a_wait_is_asked_only_of_who_can():
    async with serving() as script:
        script.line_up("acquire", problem(409, "no_seat", **FIELDS))
        async with client_of(script).seat(user="ana", wait_s=30) as seat:
            assert seat.held
        assert ["wait_ms" in body or "place" in body for body in script.bodies("acquire")] == [False, False]
        async with client_of(script).seat(user="ana"):
            pass
    assert script.abouts >= 1


async def test_the_place_is_handed_on_and_the_program_told():
    told: list[Any] = []
    async with with_a_line() as script:
        script.line_up("acquire", in_line("p_1", 2, eta_ms=60_000), in_line("p_2", 1))
        callbacks = Callbacks(on_waiting=told.append, on_held=lambda: told.append("held"))
        seat = client_of(script).seat(user="ana", wait_s=30, callbacks=callbacks)
        assert seat.standing is None
        async with seat:
            assert seat.held
            assert seat.standing is None
            await until(lambda: "held" in told)
        asked = script.bodies("acquire")
    assert [body.get("place") for body in asked] == [None, "p_1", "p_2"]
    assert all(0 < body["wait_ms"] <= 20_000 for body in asked)
    assert len({body["request_id"] for body in asked}) == 1
    first, second, held = told[:3]
    assert (first.position, first.waiting, first.eta_ms, first.in_use, first.capacity) == (2, 2, 60_000, 1, 1)
    assert (second.position, second.eta_ms, held) == (1, None, "held")


async def test_the_server_is_asked_once_what_it_can():
    async with (
        with_a_line() as script,
        client_of(script) as client,
        client.seat(user="ana", wait_s=9),
        client.seat(user="b", wait_s=9),
    ):
        assert script.abouts == 1
    assert script.abouts == 1


@pytest.mark.parametrize(
    "answer", [problem(503, "store_unavailable"), problem(503, "learning", retry_after_ms=50, place="p_1")]
)
async def test_the_place_outlives_what_passes(answer):
    async with with_a_line() as script:
        script.line_up("acquire", in_line("p_1"), answer)
        async with client_of(script).seat(user="ana", wait_s=30):
            pass
        assert [body.get("place") for body in script.bodies("acquire")] == [None, "p_1", "p_1"]


async def test_the_place_outlives_a_connection_that_breaks_and_a_server_that_is_away():
    async def broken():
        raise asyncio.CancelledError  # aiohttp closes the connection without an answer

    told: list[Any] = []
    async with with_a_line() as script:
        script.line_up("acquire", in_line("p_1"), broken)
        seat = client_of(script).seat(user="ana", wait_s=30, callbacks=Callbacks(on_waiting=told.append))
        async with seat:
            pass
        assert [body.get("place") for body in script.bodies("acquire")] == [None, "p_1", "p_1"]
    assert isinstance(told[-1].error, ConnectionFailed)
    assert told[-1].position == 2


async def test_a_poll_that_is_kept_open_longer_than_answers_may_take_is_waited_for():
    async with with_a_line() as script:
        script.line_up("acquire", in_line("p_1", after_s=0.8), after(1.5, script.granted))
        async with client_of(script).seat(user="ana", wait_s=30) as seat:  # answer_ms is 1000
            assert seat.held
            assert seat.left_ms < 600, "counted from before the poll"
            await until(lambda: "renew" in script.ops(), 0.3)
        assert script.ops().count("acquire") == 2


async def test_a_grant_after_a_poll_longer_than_the_ttl_is_confirmed_at_once():
    async with with_a_line(ttl_ms=400, renew_after_ms=150) as script:
        script.line_up("acquire", in_line("p_1", after_s=0.8), after(0.6, script.granted))
        client = client_of(script)
        async with client.seat(user="ana", wait_s=30) as seat:
            assert seat.held
            assert script.ops()[:3] == ["acquire", "acquire", "renew"]
        async with client.seat(user="ana", wait_s=30):
            assert script.bodies("acquire")[-1]["wait_ms"] <= 400 // 3, "the ttl is known by now"


async def test_a_wait_ends_in_time_with_the_last_position():
    began = time.monotonic()
    async with with_a_line() as script:
        script.always["acquire"] = in_line("p_1", 1, after_s=0.2)
        with pytest.raises(NoSeat) as caught:
            async with client_of(script).seat(user="ana", wait_s=0.7):
                raise AssertionError
        assert script.bodies("acquire")[0]["wait_ms"] == 700
    assert caught.value.position == 1
    assert 0.6 < time.monotonic() - began < 1.5


async def test_who_is_cancelled_while_waiting_closes_the_connection_and_goes():
    gone = asyncio.Event()

    async def kept_open():
        try:
            await asyncio.sleep(3_600)
        except asyncio.CancelledError:
            gone.set()
            raise
        raise AssertionError

    async def handler(request):
        return await kept_open()

    app = web.Application()
    app.router.add_post("/v1/leases", handler)
    app.router.add_get("/v1", _about)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    script = type("At", (), {"url": f"http://127.0.0.1:{runner.addresses[0][1]}"})
    try:
        seat = client_of(script).seat(user="ana", wait_s=60)
        waiter = asyncio.ensure_future(seat.__aenter__())
        await asyncio.sleep(0.2)
        began = time.monotonic()
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert time.monotonic() - began < 0.3
        await asyncio.wait_for(gone.wait(), 2)
        assert not seat.held
    finally:
        await runner.cleanup()


async def _about(request):
    return web.Response(body=json.dumps({"version": "0.1.0", "features": [FEATURE]}).encode())


async def test_who_is_cancelled_between_two_polls_goes():
    async with with_a_line() as script:
        script.always["acquire"] = problem(409, "no_seat", **FIELDS)
        waiter = asyncio.ensure_future(client_of(script).seat(user="ana", wait_s=60).__aenter__())
        await until(lambda: len(script.ops()) >= 1)
        await asyncio.sleep(0.1)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert set(script.ops()) == {"acquire"}


async def test_a_seat_that_came_as_the_program_gave_up_is_given_back():
    async with with_a_line() as script:
        script.always["acquire"] = after(0.3, script.granted)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client_of(script).seat(user="ana").__aenter__(), 0.1)
    assert script.ops() == ["acquire", "release"]


async def test_the_blocking_twin_waits_and_is_told():
    def program(url):
        told: list[Any] = []
        client = BlockingSeatClient(url, KEY, client="desk", patience=PATIENCE)
        seat = client.seat(user="ana", wait_s=30, callbacks=Callbacks(on_waiting=told.append))
        with seat:
            assert seat.held
            assert seat.standing is None
        return told

    async with with_a_line() as script:
        script.line_up("acquire", in_line("p_1"))
        [standing] = await asyncio.to_thread(program, script.url)
    assert standing.position == 2
    with pytest.raises(ValueError, match="time to wait"):
        BlockingSeatClient("http://localhost", KEY).seat(user="ana", wait_s=-1)


async def test_hold_waits_and_says_where_it_stands():
    async with with_a_line() as script:
        away = problem(503, "store_unavailable", detail="The seat store is away.")
        script.line_up("acquire", in_line("p_1", eta_ms=200_000), in_line("p_2", 1, eta_ms=9_000), away)
        code, out, err = await hold.run(script.url, "--client", "desk", "--wait", "60", "--", "echo", "ran")
    assert (code, out) == (0, "ran\n")
    assert err.splitlines() == [
        "seatd: every seat is taken (1 of 1): waiting, place 2 of 2, about 3 min",
        "seatd: every seat is taken (1 of 1): waiting, place 1 of 2, about 9 s",
        "seatd: waiting for a seat, the place is kept: store_unavailable: The seat store is away.",
    ]


async def test_hold_gives_up_in_time_and_a_signal_ends_its_wait():
    async with with_a_line() as script:
        script.always["acquire"] = in_line("p_1", after_s=0.3)
        code, out, err = await hold.run(script.url, "--client", "desk", "--wait", "1", "--", "echo", "ran")
        assert (code, out) == (75, "")
        assert err.splitlines()[-1] == "seatd: every seat is taken (1 of 1)"
        script.always["acquire"] = never
        process = await hold.start(script.url, "--client", "desk", "--wait", "60", "--", "echo", "ran")
        before = len(script.ops())
        await until(lambda: len(script.ops()) > before)
        process.terminate()
        assert (await hold.ended(process))[:2] == (143, "")
    assert (await hold.run("http://127.0.0.1:9", "--wait", "nan", "--", "true"))[0] == 2
