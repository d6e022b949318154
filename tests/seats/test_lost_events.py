"""Events and a loss of the store: what was acknowledged is added again, and what is not committed is not dropped."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatd.model import Refusal, UsageEvent
from seatd.seats import unrecorded
from seatd.seats.batch import QUEUE_MAX
from seatd.seats.layout import ENTRY_MAX
from seatd.seats.store import Answers, StoreAwayError
from seatd.seats.unrecorded import Unrecorded
from tests.seats.plane import KEY, plane, policy
from tests.usage.ledgers import put
from tests.valkey import ValkeyServer


async def test_events_of_a_store_that_was_lost_since_trim_nothing(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy()) as made:
        await made.acquire("ana")
        (event,) = await made.store.events(0, "0-0", 10)
        await made.store.trim(0, event._replace(epoch=event.epoch - 1))
        await made.store.trim(0, event._replace(seq=event.seq + 1))
        await made.store.trim(0, event._replace(stream_id=event.stream_id.partition("-")[0] + "-99"))
        assert await made.store.backlog(0) == 1
        await made.store.trim(0, event)
        assert await made.store.backlog(0) == 0


async def test_more_lost_events_than_the_queue_holds_are_added_once(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy()) as made:
        await made.acquire("ana")
        before, lost = await made.store.backlog(0), QUEUE_MAX + 1
        made.batcher.unrecorded.keep_lost([b"\x90"] * lost)
        await made.upkeep.add_lost_again(made.batcher)
        assert await made.store.backlog(0) == before + lost


async def test_events_of_a_call_share_entries_and_are_read_and_counted_one_by_one(
    valkey: ValkeyServer,
) -> None:
    async with plane(valkey, policy(cap=100)) as made:
        users = [f"u{number:02}" for number in range(ENTRY_MAX + 1)]
        leases = await asyncio.gather(*(made.acquire(user) for user in users))
        with valkey.client() as client:
            entries = client.xlen(made.store.partition_keys(0)[1])
        assert entries < len(users)
        found = await made.store.events(0, "0-0", 10_000)
        assert sorted(event.user for event in found) == users
        assert [event.seq for event in found] == list(range(1, len(users) + 1))
        assert not found.more
        assert await made.store.backlog(0) == len(users)
        first = await made.store.events(0, "0-0", 1)
        assert (first, first.more) == (found[: len(first)], True)
        await made.store.trim(0, first[-1])
        assert await made.store.events(0, "0-0", 10_000) == found[len(first) :]
        assert await made.store.backlog(0) == len(users) - len(first)
        await made.release(leases[0])
        assert (await made.store.events(0, "0-0", 10_000))[-1].seq == len(users) + 1


async def test_a_stream_that_somebody_emptied_is_not_taken_for_full(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=10), stream_max=3) as made:
        for user in ("ana", "bob", "cy"):
            await made.acquire(user)
        with valkey.client() as client:
            client.delete(made.store.partition_keys(0)[1])
        with pytest.raises(Refusal, match="store_unavailable"):
            await made.acquire("dan")
        assert await made.store.backlog(0) == 0  # as the recorder asks
        assert (await made.acquire("dan")).created
        assert await made.store.backlog(0) == 1


async def test_a_stream_without_its_meta_key_is_counted_when_an_epoch_is_opened(
    valkey: ValkeyServer,
) -> None:
    async with plane(valkey, policy(cap=10)) as made:
        await asyncio.gather(*(made.acquire(user) for user in ("ana", "bob", "cy")))
        await made.acquire("dan")
        first = (await made.store.events(0, "0-0", 1))[-1]
        await made.store.trim(0, first)
        waiting = len(await made.store.events(0, "0-0", 100))
        with valkey.client() as client:
            client.delete(made.store.partition_keys(0)[0])
        await made.acquire("eve")  # an epoch is opened
        assert await made.store.backlog(0) == waiting + 1
        while events := await made.store.events(0, "0-0", 100):
            await made.store.trim(0, events[-1])
        assert await made.store.backlog(0) == 0


async def test_entries_of_few_events_are_read_in_few_trips_and_epochs_apart(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def event(number: int, epoch: int) -> UsageEvent:
        return UsageEvent(0, epoch, number, "", "ended", "acme", number, "l", "ana", reason="expired")

    trips = []
    async with plane(valkey, policy()) as made:
        one = made.store._one

        async def watched(command: list[Any]) -> Any:
            trips.append(command[0])
            return await one(command)

        monkeypatch.setattr(made.store, "_one", watched)
        with valkey.client() as client:
            for number in range(1, 211):
                put(client, event(number, 1))
            put(client, *(event(number, 2) for number in range(1, 10)))
        found = await made.store.events(0, "0-0", 320)
        assert [(each.epoch, each.seq) for each in found] == [(1, number) for number in range(1, 211)]
        assert found.more, "what begins a page in another epoch may be another store's"
        assert len(trips) < 5
        await made.store.trim(0, found[-1])
        rest = await made.store.events(0, "0-0", 320)
        assert ([each.seq for each in rest], rest.more) == ([*range(1, 10)], False)


async def test_an_operation_that_fails_takes_no_event_of_those_before_it_along(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=3)) as made:
        await made.acquire("ana")
        good = ("acme", KEY, "bob", "pc1", "", "", 0, False, "lease-of-bob", False, 0, 0, 0)
        (outcome,) = await made.store.run(0, [("acquire", [good, ("acme", KEY)])])
        assert isinstance(outcome, StoreAwayError)
        await made.acquire("cy")
        events = await made.store.events(0, "0-0", 100)
        assert [(event.seq, event.user) for event in events] == [(1, "ana"), (2, "bob"), (3, "cy")]
        assert (await made.seats.fullness("acme")).in_use == 3


@pytest.mark.parametrize("length", [1, 12, 60, 128])
@pytest.mark.parametrize("labels", [{}, {"site": "Köln"}, {f"l{number}": "ß" * 60 for number in range(8)}])
async def test_what_is_kept_is_what_stands_in_the_stream(
    valkey: ValkeyServer, length: int, labels: dict[str, str]
) -> None:
    """Byte for byte, however long: else what is added again after a loss would be another event."""
    async with plane(valkey, policy()) as made:
        await made.acquire("u" * length, labels=labels)
        with valkey.client() as client:
            ((_, fields),) = client.xrange(made.store.partition_keys(0)[1])
        made.batcher.unrecorded.epoch += 1
        (kept,) = made.batcher.unrecorded.lost()
        assert fields[b"e"] == b"\xdc\0\1" + kept


def answered(epoch: int, first: int, count: int) -> Answers:
    return Answers([], 0, epoch, first, [b"%d-%d" % (epoch, first + number) for number in range(count)])


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("note"), st.integers(1, 3), st.integers(0, 5)),
            st.tuples(st.just("committed"), st.integers(1, 3), st.integers(0, 12)),
            st.tuples(st.just("lost"), st.just(0), st.integers(0, 3)),
        ),
        max_size=12,
    )
)
def test_what_is_kept_is_all_that_was_heard_and_is_not_known_to_be_committed(deeds):
    """Against a plain list of events, epochs and numbers; of what is lost some cannot be added yet."""
    kept, plain, newest, seqs = Unrecorded(), [], 0, dict.fromkeys((1, 2, 3), 0)
    for deed, epoch, number in deeds:
        if deed == "note":
            newest = max(newest, epoch)
            kept.note(answered(epoch, seqs[epoch] + 1, number))
            plain += [
                (epoch, seqs[epoch] + n, b"%d-%d" % (epoch, seqs[epoch] + n)) for n in range(1, number + 1)
            ]
            seqs[epoch] += number
        elif deed == "committed":
            kept.committed(epoch, number)
            plain = [each for each in plain if each[0] != epoch or each[1] > number]
        else:
            lost = kept.lost()
            assert lost == [event for of, _, event in plain if of < newest]
            plain = [each for each in plain if each[0] >= newest]
            kept.keep_lost(lost[:number])
            plain = [(-1, 0, event) for event in lost[:number]] + plain
        assert len(kept) == len(plain)


def test_beyond_its_bound_the_oldest_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unrecorded, "KEPT_MAX", 10)
    kept = Unrecorded()
    for first in (1, 5, 9, 13):
        kept.note(answered(1, first, 4))
    kept.epoch = 2
    lost = kept.lost()
    assert lost == [b"1-%d" % number for number in range(7, 17)]
    assert not kept
    kept.keep_lost(lost)
    kept.note(answered(2, 1, 1))
    kept.epoch = 3
    assert kept.lost() == [*lost[1:], b"2-1"], "not all that came back goes for the sake of one"
