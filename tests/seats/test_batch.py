"""The batcher: one call in flight, who goes first, who gave up, how much may wait."""

import asyncio

import pytest

from seatd.model import Refusal
from seatd.seats import batch
from seatd.seats.batch import Batcher
from seatd.seats.model import Lease
from seatd.seats.store import StoreOptions, connect
from tests.seats.plane import KEY, Plane, WatchedStore, plane, policy
from tests.valkey import ValkeyServer


def acquire(user: str, lease: str):
    return ("acquire", ("acme", KEY, user, "pc1", "", "x", 0, False, lease, False, 0, 0, 0))


async def ready(made: Plane) -> None:
    await made.seats.put_policy(made.accounts["acme"])
    made.watched.trips.clear()


async def test_what_comes_at_once_travels_together(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=100)) as made:
        await ready(made)
        await asyncio.gather(*(made.acquire(f"user{i}") for i in range(100)))
        assert made.watched.trips == [[("acquire", 100)]]


async def test_the_next_batch_gathers_while_one_call_is_in_flight(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=100)) as made:
        await ready(made)
        first = asyncio.create_task(made.acquire("ana"))
        while not made.watched.under_way:
            await asyncio.sleep(0)
        others = [asyncio.create_task(made.acquire(f"user{i}")) for i in range(30)]
        await asyncio.gather(first, *others)
        assert made.watched.trips == [[("acquire", 1)], [("acquire", 30)]]
        assert made.watched.most_under_way == 1


async def test_renewals_and_releases_go_ahead_of_acquires(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=2)) as made:
        ana, bob = await made.acquire("ana"), await made.acquire("bob")
        made.watched.trips.clear()
        granted, released, renewed = await asyncio.gather(
            made.acquire("cy"), made.release(bob), made.renew(ana)
        )
        assert made.watched.trips == [[("renew", 1), ("release", 1), ("acquire", 1)]]
        assert granted.created, "the seat that was released in the same trip"
        assert released
        assert renewed.lease == ana.lease


async def test_a_trip_is_bounded_and_acquires_wait(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=1_000)) as made:
        await ready(made)
        leases = await asyncio.gather(*(made.acquire(f"user{i}") for i in range(300)))
        assert made.watched.trips == [[("acquire", 256)], [("acquire", 44)]]
        made.watched.trips.clear()
        await asyncio.gather(made.acquire("late"), *(made.renew(lease) for lease in leases))
        assert made.watched.trips == [[("renew", 256)], [("renew", 44), ("acquire", 1)]]


async def test_who_asks_again_when_told_that_the_store_is_away_is_told_again(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy()) as made:
        told: list[str] = []

        def again(answer: object) -> None:
            told.append("first")
            verb, operation = acquire("cy", "lease-of-cy")
            made.batcher.offer(verb, operation, lambda _: told.append("second"))

        for user, listens in (("ana", lambda _: None), ("bob", again)):
            verb, operation = acquire(user, f"lease-of-{user}")
            made.batcher.offer(verb, operation, listens)
        made.batcher._fail_waiting()
        assert told == ["first"]
        async with asyncio.timeout(5):
            while told != ["first", "second"]:
                await asyncio.sleep(0.01)


async def test_a_caller_who_gave_up_is_not_sent(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy()) as made:
        await ready(made)
        tasks = [asyncio.create_task(made.acquire(user)) for user in ("ana", "bob")]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert (await tasks[1]).created
        assert made.watched.trips == [[("acquire", 1)]]
        assert (await made.seats.fullness("acme")).in_use == 1


async def test_a_caller_who_gives_up_in_flight_harms_nobody(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=50)) as made:
        await ready(made)
        tasks = [asyncio.create_task(made.acquire(f"user{i}", request_id="r")) for i in range(20)]
        while not made.watched.under_way:
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for i, answer in enumerate(answers):
            if i % 2:
                assert isinstance(answer, Lease)
                assert answer.user == f"user{i}"
        again = await asyncio.gather(*(made.acquire(f"user{i}", request_id="r") for i in range(20)))
        assert [lease.user for lease in again] == [f"user{i}" for i in range(20)]
        assert not any(lease.created for lease in again), "it ran, and the retry finds it"


async def test_who_stumbles_over_an_answer_harms_nobody(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy()) as made:
        await ready(made)

        def stumbles(_: object) -> None:
            raise RuntimeError("stumbled")

        verb, operation = acquire("ana", "lease1")
        made.batcher.offer(verb, operation, stumbles)
        assert (await made.acquire("bob")).user == "bob"
        assert (await made.acquire("ana")).lease == "lease1"


async def test_the_queue_is_bounded(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "QUEUE_MAX", 10)
    async with plane(valkey, policy(cap=50)) as made:
        await ready(made)
        answers = await asyncio.gather(*(made.acquire(f"user{i}") for i in range(15)), return_exceptions=True)
        busy = [answer for answer in answers if isinstance(answer, Refusal)]
        assert [refused.code for refused in busy] == ["busy"] * 5
        assert busy[0].fields["retry_after_ms"] > 0
        assert (await made.acquire("late")).created


async def test_a_script_that_fails_takes_no_other_with_it(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy()) as made:
        lease = await made.acquire("ana")
        broken = made.batcher.submit("acquire", ("acme", KEY, "bob", "pc1"))  # half an operation
        renewed, refused = await asyncio.gather(made.renew(lease), broken, return_exceptions=True)
        assert isinstance(renewed, Lease)
        assert isinstance(refused, Refusal)
        assert refused.code == "store_unavailable"


async def test_closing_sends_what_waits(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy()) as made:
        await ready(made)
        options = StoreOptions()
        async with Batcher(WatchedStore(connect(valkey.url, options), options), 0) as other:
            task = asyncio.create_task(other.submit(*acquire("ana", "lease1")))
            await asyncio.sleep(0)
        assert (await task)[0] == "granted"
        with pytest.raises(Refusal, match="store_unavailable"):
            await other.submit(*acquire("ana", "lease2"))
