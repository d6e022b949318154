"""Events and a loss of the store: what was acknowledged is added again, and what is not committed is not dropped."""

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
        await made.seats.add_lost_again(made.batcher)
        assert await made.store.backlog(0) == before + lost
