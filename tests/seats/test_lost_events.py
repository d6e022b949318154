"""Events and a loss of the store: what was acknowledged is added again, and what is not committed is not dropped."""

import pytest

from seatd.seats.batch import QUEUE_MAX
from tests.seats.plane import plane, policy
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


@pytest.mark.parametrize("length", [1, 12, 60, 128])
@pytest.mark.parametrize("labels", [{}, {"site": "Köln"}, {f"l{number}": "ß" * 60 for number in range(8)}])
async def test_what_is_kept_is_what_stands_in_the_stream(
    valkey: ValkeyServer, length: int, labels: dict[str, str]
) -> None:
    """Byte for byte, however long: else what is added again after a loss would be another event."""
    async with plane(valkey, policy()) as made:
        await made.acquire("u" * length, labels=labels)
        with valkey.client() as client:
            streamed = [fields[b"e"] for _, fields in client.xrange(made.store.partition_keys(0)[1])]
        made.batcher.unrecorded.epoch += 1
        assert made.batcher.unrecorded.lost() == streamed
        assert len(streamed) == 1
