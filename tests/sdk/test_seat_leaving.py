"""How a seat is left: cancelled programs, releases that fail, machines that sleep."""

import asyncio
import time

import pytest
from seatd_client.clock import boottime_ms
from seatd_client.lease import DEADLINE

from tests.sdk.scripted import after, never, problem, serving
from tests.sdk.seats import client_of, until


async def test_who_is_cancelled_while_asking_leaves_no_seat_behind():
    async with serving() as script:
        script.line_up("acquire", after(0.2, script.granted))
        seat = client_of(script).seat(user="ana")
        asker = asyncio.ensure_future(seat.__aenter__())
        await until(lambda: script.ops() == ["acquire"])
        asker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asker
        assert script.ops() == ["acquire", "release"]
        assert not seat.held


async def test_who_is_cancelled_while_nobody_answers_gets_away():
    async with serving() as script:
        script.line_up("acquire", never)
        asker = asyncio.ensure_future(client_of(script).seat(user="ana").__aenter__())
        await until(lambda: script.ops() == ["acquire"])
        began = time.monotonic()
        asker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asker
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_program_gives_its_seat_back_and_closes_its_connection(times):
    async with serving() as script:
        client = client_of(script)

        async def program():
            async with client.seat(user="ana"):
                await asyncio.sleep(3_600)

        running = asyncio.ensure_future(program())
        await until(lambda: script.ops() == ["acquire"])
        await asyncio.sleep(0.05)
        for _ in range(times):
            running.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await running
        assert client.transport._http._session is None
        if times == 1:
            assert script.ops() == ["acquire", "release"]


async def test_belief_stops_before_a_release_is_sent():
    async with serving() as script:
        seat = client_of(script).seat(user="ana")
        held = []

        async def look():
            held.append(seat.held)
            return script.release(None, {})

        script.line_up("release", look)
        async with seat:
            assert seat.held
    assert held == [False]


async def test_leaving_takes_a_bounded_time_and_tries_again():
    async with serving() as script:
        script.line_up("release", problem(503, "store_unavailable"))
        async with client_of(script).seat(user="ana"):
            pass
        assert script.ops() == ["acquire", "release", "release"]
        script.always["release"] = never
        began = time.monotonic()
        async with client_of(script).seat(user="ana"):
            pass
        assert 0.4 < time.monotonic() - began < 1


async def test_a_release_that_is_refused_is_not_sent_again():
    async with serving() as script:
        script.line_up("release", problem(400, "receipt_invalid"))
        async with client_of(script).seat(user="ana"):
            pass
        assert script.ops() == ["acquire", "release"]


async def test_a_suspension_beyond_the_deadline_loses_the_seat_on_waking():
    slept_ms = 0
    async with serving(ttl_ms=300_000, renew_after_ms=100_000) as script:
        client = client_of(script, clock=lambda: boottime_ms() + slept_ms)
        async with client.seat(user="ana") as seat:
            slept_ms = 298_000
            assert not seat.held, "no timer has run yet"
            assert seat.lost.is_set()
            assert await asyncio.wait_for(seat.lost.wait(), 1.5) == DEADLINE
            assert "renew" not in script.ops()


async def test_a_suspension_within_the_deadline_renews_on_waking():
    slept_ms = 0
    async with serving(ttl_ms=300_000, renew_after_ms=100_000) as script:
        client = client_of(script, clock=lambda: boottime_ms() + slept_ms)
        async with client.seat(user="ana") as seat:
            slept_ms = 200_000
            assert seat.held
            await until(lambda: "renew" in script.ops(), 1.5)
            await until(lambda: seat.left_ms > 290_000)


async def test_a_suspension_during_a_renewal_loses_the_seat_on_waking():
    slept_ms = 0
    async with serving(ttl_ms=300_000, renew_after_ms=1) as script:
        script.always["renew"] = never
        client = client_of(script, clock=lambda: boottime_ms() + slept_ms)
        async with client.seat(user="ana") as seat:
            slept_ms = 16_000
            await until(lambda: "renew" in script.ops(), 2)
            slept_ms = 400_000
            assert not seat.held
            assert await asyncio.wait_for(seat.lost.wait(), 1.5) == DEADLINE
