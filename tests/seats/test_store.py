"""The store's faults: it dies, stops, forgets its scripts; and what it keeps: keys, clock, memory."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from seatd.model import Refusal
from seatd.seats.layout import Operation
from seatd.seats.store import SCRIPTS, PartitionState, Store, StoreAwayError, StoreOptions, connect
from tests.seats.plane import KEY, plane, policy
from tests.valkey import ValkeyServer


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A store that the test may kill."""
    server = ValkeyServer(appendonly=True)
    server.start()
    yield server
    server.remove()


@asynccontextmanager
async def unavailable_within_a_second() -> AsyncIterator[None]:
    began = time.monotonic()
    with pytest.raises(Refusal, match="store_unavailable") as caught:
        yield
    assert caught.value.fields["retry_after_ms"] > 0
    assert time.monotonic() - began < 1.0


async def test_a_store_that_dies_is_answered_for_and_found_again(own_valkey: ValkeyServer) -> None:
    async with plane(own_valkey, policy(cap=5, ttl_ms=60_000)) as made:
        lease = await made.acquire("ana")
        own_valkey.kill()
        for _ in range(2):
            async with unavailable_within_a_second():
                await made.acquire("bob")
            async with unavailable_within_a_second():
                await made.renew(lease)
        own_valkey.start()
        assert (await made.renew(lease)).lease == lease.lease, "its file was fsynced always"
        assert (await made.acquire("bob")).created
        assert made.projected == ["acme"]


async def test_a_store_that_dies_in_the_middle_of_a_call(own_valkey: ValkeyServer) -> None:
    async with plane(own_valkey, policy(cap=5, ttl_ms=60_000)) as made:
        lease = await made.acquire("ana")
        assert own_valkey.process is not None
        os.kill(own_valkey.process.pid, signal.SIGSTOP)
        call = asyncio.create_task(made.renew(lease))
        await asyncio.sleep(0.1)
        async with unavailable_within_a_second():
            own_valkey.kill()
            await call
        own_valkey.start()
        assert (await made.renew(lease)).lease == lease.lease


async def test_a_store_that_stands_still(own_valkey: ValkeyServer) -> None:
    async with plane(own_valkey, policy(cap=50, ttl_ms=60_000)) as made:
        lease = await made.acquire("ana")
        assert own_valkey.process is not None
        os.kill(own_valkey.process.pid, signal.SIGSTOP)
        tasks = [asyncio.create_task(made.acquire(f"user{i}", request_id="r")) for i in range(10)]
        await asyncio.sleep(0.4)
        late = asyncio.create_task(made.renew(lease))  # behind a call that hangs already
        began = time.monotonic()
        answers = await asyncio.gather(*tasks, late, return_exceptions=True)
        assert time.monotonic() - began < 1.0
        assert {getattr(answer, "code", answer) for answer in answers} == {"store_unavailable"}
        async with unavailable_within_a_second():
            await made.renew(lease)
        os.kill(own_valkey.process.pid, signal.SIGCONT)
        assert (await made.renew(lease)).lease == lease.lease
        again = await asyncio.gather(*(made.acquire(f"user{i}", request_id="r") for i in range(10)))
        assert [answer.user for answer in again] == [f"user{i}" for i in range(10)], "answers are in step"
        assert (await made.seats.fullness("acme")).in_use == 11


async def test_a_store_that_lost_everything_is_opened_and_told_again(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy()) as made:
        await made.acquire("ana")
        with valkey.client() as client:
            client.flushall()
        assert (await made.acquire("ana")).created
        assert made.opened == [0, 0]
        assert made.projected == ["acme", "acme"]


async def test_scripts_that_were_flushed_are_loaded_again(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=5)) as made:
        lease = await made.acquire("ana")
        with valkey.client() as client:
            client.script_flush()
        assert (await made.renew(lease)).lease == lease.lease


async def test_only_what_did_not_run_is_sent_again(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=5)) as made:
        lease = await made.acquire("ana")
        with valkey.client() as client:
            client.script_flush()
            client.script_load(SCRIPTS["acquire"])  # of one trip one script runs, the other does not
            client.config_resetstat()
            started, renewed = await asyncio.gather(made.acquire("bob"), made.renew(lease))
            assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 3
        assert started.created
        assert renewed.lease == lease.lease


async def test_an_epoch_that_is_open_stays(valkey: ValkeyServer) -> None:
    options = StoreOptions()
    store = Store(connect(valkey.url, options), options)
    assert await store.look(0) == PartitionState(0, known=False, hwm_ms=0)
    opened = await store.open_epoch(0, 0, 3)
    assert (opened.epoch, opened.known) == (3, True)
    assert await store.open_epoch(0, 0, 4) == opened  # whoever saw none was overtaken
    assert (await store.open_epoch(0, 3, 5)).epoch == 5
    await store.close()


async def test_time_is_held_where_the_store_s_clock_falls(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(), clock_offset_ms=3_600_000) as ahead:
        lease = await ahead.acquire("ana")
    async with plane(valkey, policy()) as behind:
        renewed = await behind.renew(lease)
        assert renewed.expires_ms >= lease.expires_ms
        assert (await behind.acquire("bob")).start_ms >= lease.start_ms


async def test_a_store_that_is_not_there() -> None:
    options = StoreOptions()
    store = Store(connect("unix:///nowhere/at/all.sock", options), options)
    with pytest.raises(StoreAwayError):
        await store.now_ms()


async def test_keys_of_a_partition_share_its_tag(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(bindings={"ana": ("social",)})) as made:
        lease = await made.acquire("ana", request_id="r1")
        await made.release(lease)
        with valkey.client() as client:
            assert all(b"{p00}" in key for key in client.scan_iter())


@pytest.mark.parametrize("request_length", [0, 16])
async def test_a_live_lease_is_small(valkey: ValkeyServer, request_length: int) -> None:
    """Measure, with ids of 16 characters, what each of many leases needs in the store."""
    number, options = 2_000, StoreOptions(timeout_ms=10_000)
    store = Store(connect(valkey.url, options), options)
    async with plane(valkey, policy(cap=number + 1, ttl_ms=3_600_000)) as made:
        await made.acquire("warm")
        with valkey.client() as client:
            before = client.info("memory")["used_memory"]
            for start in range(0, number, 200):
                ops = [_acquire(i, request_length) for i in range(start, start + 200)]
                await store.run(0, [("acquire", ops)])
            client.delete(store.partition_keys(0)[1])  # the stream is the recorder's to trim
            after = client.info("memory")["used_memory"]
    await store.close()
    each = (after - before) / number
    print(f"{each:.0f} bytes a live lease")
    assert each <= 450


def _acquire(number: int, request_length: int) -> Operation:
    request = f"request-{number:08}"[:request_length]
    ids = (f"user-{number:011}", f"client-{number:09}", request, f"{number:016}")
    return ("acme", KEY, *ids, 0, False, f"lease-{number:010}", False, 0, 0, 0)
