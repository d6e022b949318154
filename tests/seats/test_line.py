"""Waiting in line at one or two seatds: who asks again when, who leaves, what becomes of a seat that nobody heard of."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from seatd.model import Refusal
from seatd.seats import line
from seatd.seats.model import Acquire, Caller, Lease
from tests.seats.plane import KEY, Plane, plane, policy
from tests.seats.test_service import refusal
from tests.valkey import ValkeyServer


@asynccontextmanager
async def full_house(server: ValkeyServer, **options: Any) -> AsyncIterator[tuple[Plane, Lease]]:
    """A tenant of one seat, taken, and a loop that looks after its line."""
    async with plane(server, policy(cap=1, ttl_ms=60_000), **options) as made:
        looking = asyncio.create_task(made.seats.line.look_for_ever())
        try:
            yield made, await made.acquire("ana")
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking


def waits(
    made: Plane, user: str, gone: Callable[[], bool] = lambda: False, **wanted: Any
) -> "asyncio.Task[Lease]":
    wish = Acquire(user, "pc1", **{"wait_ms": 20_000, **wanted})
    return asyncio.create_task(made.seats.acquire(Caller("acme", KEY), wish, gone))


async def waiting(made: Plane) -> int:
    return (await made.seats.fullness("acme")).waiting


async def until_waiting(made: Plane, number: int) -> None:
    async with asyncio.timeout(5):
        while await waiting(made) != number:
            await asyncio.sleep(0.01)


async def sitting(made: Plane) -> list[str]:
    return [row.user for row in (await made.seats.sitting("acme", 0, 100))[0]]


async def test_a_seat_is_handed_on_in_order_over_two_seatds(valkey: ValkeyServer) -> None:
    async with full_house(valkey) as (one, lease), plane(valkey, policy(cap=1, ttl_ms=60_000)) as two:
        looking = asyncio.create_task(two.seats.line.look_for_ever())
        first = waits(two, "bob")
        await until_waiting(one, 1)
        second = waits(one, "cy")
        await until_waiting(one, 2)
        await one.release(lease)
        got = await first
        assert not second.done()
        await two.release(got)
        assert (await second).user == "cy"
        looking.cancel()


async def test_whoever_gives_up_while_asking_is_given_nothing(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=1, ttl_ms=60_000)) as made:
        await made.seats.put_policy(made.accounts["acme"])
        task = waits(made, "bob", request_id="r1")
        while not made.watched.under_way:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            while await sitting(made):
                await asyncio.sleep(0.01)
        again = await made.acquire("bob", request_id="r1")
        assert again.created, "the request is as if it had never been"


async def test_whoever_gives_up_in_line_leaves_it(valkey: ValkeyServer) -> None:
    async with full_house(valkey) as (made, _):
        task, other = waits(made, "bob"), waits(made, "bob")
        await until_waiting(made, 1)
        task.cancel()
        await asyncio.sleep(0.1)
        assert await waiting(made) == 1, "its other request waits on"
        other.cancel()
        await until_waiting(made, 0)


async def test_a_seat_that_nobody_heard_of_is_taken_back(valkey: ValkeyServer) -> None:
    async with full_house(valkey) as (made, lease):
        gone: list[bool] = []
        task = waits(made, "bob", lambda: bool(gone), request_id="r1")
        await until_waiting(made, 1)
        gone.append(True)
        await made.release(lease)
        with contextlib.suppress(Refusal):
            await task
        await until_waiting(made, 0)
        assert await sitting(made) == []
        assert (await made.acquire("bob", request_id="r1")).created


async def test_a_seat_that_its_request_was_told_of_again_stays(valkey: ValkeyServer) -> None:
    """The connection broke, the caller asked again and was answered, and only then the first one is noticed to be gone."""
    async with plane(valkey, policy(cap=1, ttl_ms=60_000)) as made:
        caller, wish = Caller("acme", KEY), Acquire("bob", "pc1", request_id="r1")
        lost = await made.seats.acquire(caller, wish)
        again = await made.seats.acquire(caller, wish)
        assert (again.lease, again.created) == (lost.lease, False)
        await made.seats._withdraw(caller, wish, lost)
        assert (await made.renew(again)).lease == again.lease


async def test_a_lease_that_was_held_before_is_not_taken_back(valkey: ValkeyServer) -> None:
    async with full_house(valkey) as (made, lease):
        again = await waits(made, "ana", lambda: True)
        assert (again.lease, again.created) == (lease.lease, False)
        assert await sitting(made) == ["ana"]


async def test_one_request_waits_for_a_minute_at_the_most(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert line.POLL_MAX_MS == 60_000
    monkeypatch.setattr(line, "POLL_MAX_MS", 100)
    async with full_house(valkey) as (made, lease):
        refused = await refusal(waits(made, "bob"))
        assert (refused.code, refused.fields["position"]) == ("no_seat", 1)
        assert await waiting(made) == 1
        monkeypatch.setattr(line, "POLL_MAX_MS", 60_000)
        task = waits(made, "bob", place=refused.fields["place"])
        await made.release(lease)
        assert (await task).created


async def test_to_wait_is_no_denial_and_to_give_up_is_one(valkey: ValkeyServer) -> None:
    async with full_house(valkey) as (made, _):
        task = waits(made, "bob", wait_ms=400)
        await until_waiting(made, 1)
        (row,) = await made.seats.everywhere()
        assert row[3] == 0
        await refusal(task)
        (row,) = await made.seats.everywhere()
        assert row[3] == 1


async def test_they_wait_on_while_the_store_is_away(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with full_house(valkey, timeout_ms=200) as (made, lease):
        task = waits(made, "bob")
        await until_waiting(made, 1)
        with valkey.client() as client:
            client.client_pause(1_500)
        refused = await refusal(waits(made, "cy"))
        assert (refused.code, "place" in refused.fields) == ("store_unavailable", False)
        assert not task.done()
        with valkey.client() as client:
            client.client_unpause()
        await made.release(lease)
        assert (await task).created


async def test_a_place_comes_with_a_refusal_of_a_store_that_went_away(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with full_house(valkey, timeout_ms=200) as (made, lease):
        task = waits(made, "bob", wait_ms=600)
        await until_waiting(made, 1)
        with valkey.client() as client:
            client.client_pause(3_000)
        refused = await refusal(task)
        assert refused.code == "store_unavailable"
        with valkey.client() as client:
            client.client_unpause()
        (later,) = [await refusal(waits(made, "cy", wait_ms=1))]
        assert later.fields["position"] == 2
        in_line = await refusal(
            made.seats.acquire(Caller("acme", KEY), Acquire("bob", "pc1", place=refused.fields["place"]))
        )
        assert in_line.fields["position"] == 1
        assert await made.release(lease)


async def test_the_store_s_loss_is_told_with_the_place(valkey: ValkeyServer) -> None:
    async with full_house(valkey) as (made, _):
        made.accounts["acme"] = policy(cap=1, ttl_ms=60_000, learn_ttl_ms=60_000)
        task = waits(made, "bob")
        await until_waiting(made, 1)
        with valkey.client() as client:
            client.flushall()
        await made.seats.reachable()
        refused = await refusal(task)
        assert refused.code == "learning"
        other = await refusal(waits(made, "cy"))
        again = await refusal(waits(made, "bob", place=refused.fields["place"]))
        assert (other.code, again.code) == ("learning", "learning")
        with valkey.client() as client:
            assert client.zrange("seatd:{p00}:w:acme", 0, -1) == [b"bob", b"cy"]


async def test_a_seatd_that_stops_asks_for_all_who_wait_once_more(valkey: ValkeyServer) -> None:
    async with full_house(valkey) as (made, _):
        tasks = [waits(made, user) for user in ("bob", "cy")]
        await until_waiting(made, 2)
        made.seats.line.close()
        answers = [await refusal(task) for task in tasks]
        assert sorted(answer.fields["position"] for answer in answers) == [1, 2]
        assert (await refusal(waits(made, "bob"))).fields["position"] == 1


async def test_those_who_wait_hear_that_their_tenant_may_not_work(valkey: ValkeyServer) -> None:
    async with full_house(valkey) as (made, _):
        task = waits(made, "bob")
        await until_waiting(made, 1)
        await made.seats.put_policy(policy(cap=1, ttl_ms=60_000, version=2, suspended_since_ms=17))
        assert (await refusal(task)).code == "suspended"
        assert await waiting(made) == 0


async def test_a_raised_cap_lets_the_line_in(valkey: ValkeyServer) -> None:
    async with full_house(valkey) as (made, _):
        await made.seats.put_policy(policy(cap=2, ttl_ms=60_000, version=2))
        await made.acquire("bob")
        tasks = [waits(made, f"user{number}") for number in range(4)]
        await until_waiting(made, 4)
        await made.seats.put_policy(policy(cap=5, ttl_ms=60_000, version=3))
        done, _ = await asyncio.wait(tasks, return_when=asyncio.ALL_COMPLETED, timeout=0.5)
        assert len(done) == 3
        await made.seats.put_policy(policy(cap=6, ttl_ms=60_000, version=4))
        assert len(await asyncio.gather(*tasks)) == 4


async def test_many_wait_and_few_commands_look_after_them(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "SEEN_EVERY_S", 0.2)
    async with plane(valkey, policy(cap=400, ttl_ms=60_000)) as made:
        looking = asyncio.create_task(made.seats.line.look_for_ever())
        await asyncio.gather(*(made.acquire(f"sits{number}") for number in range(400)))
        tasks = [waits(made, f"user{number}") for number in range(600)]
        await until_waiting(made, 600)
        made.watched.trips.clear()
        await asyncio.sleep(1.0)
        looks = [verb for trip in made.watched.trips for verb, _ in trip]
        assert set(looks) == {"line"}
        assert len(looks) <= 21, "one a tick for all of them"
        assert await waiting(made) == 600
        for task in tasks:
            task.cancel()
        await until_waiting(made, 0)
        looking.cancel()


async def test_a_tenant_whose_last_waiter_was_just_answered_is_looked_after_by_nobody(
    valkey: ValkeyServer,
) -> None:
    async with full_house(valkey) as (made, _):
        made.watched.trips.clear()
        await made.seats.line.look_after("acme")
        assert made.watched.trips == []
