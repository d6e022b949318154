"""The recorder's loop: cut off from the database or the store, closed, and never stopped by what nobody expected."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts import people
from seatd.database.engine import make_engine
from seatd.model import Refusal, UsageEvents
from seatd.seats.store import Store, StoreAwayError, StoreOptions, connect
from seatd.usage.recorder import Recorder
from tests.postgres import PostgresServer
from tests.usage import oracle
from tests.usage.conftest import NOW_MS
from tests.usage.day import DAY, Fuse, FusedStream, MakeRecorder, told, until
from tests.usage.ledgers import STREAM, ledger, put
from tests.valkey import ValkeyServer


async def test_the_loop_survives_sql_going_away_and_says_so_once(
    valkey: ValkeyServer, store: Store, new_postgres: Callable[[], PostgresServer]
) -> None:
    server = new_postgres()
    engine = make_engine(server.migrated_database())
    recorder = Recorder(
        engine, store, people.persons_for, clock=lambda: NOW_MS, away=(StoreAwayError,), batch=2
    )
    with structlog.testing.capture_logs() as logs, valkey.client() as client:
        loop = asyncio.create_task(recorder.run_for_ever(20))
        put(client, *DAY[:2])
        await until(lambda: client.xlen(STREAM.format(0)) == 0)
        assert await store.backlog(0) == 0
        server.stop()
        put(client, *DAY[2:])
        await until(lambda: recorder.waiting is None)
        await asyncio.sleep(0.3)
        assert await store.backlog(0) == len(DAY) - 2
        server.start()
        await until(lambda: recorder.waiting == 0)
        assert await recorder.close(5_000)
        await asyncio.wait_for(loop, 5)
    assert await ledger(engine, 0) == told(DAY)
    assert [line["event"] for line in logs] == ["usage waits in the stream", "usage is recorded again"]
    await engine.dispose()


async def test_the_loop_survives_the_store_going_away(engine: AsyncEngine, recorder_of: MakeRecorder) -> None:
    server = ValkeyServer(appendonly=True)
    server.start()
    store = Store(connect(server.url, StoreOptions()), StoreOptions())
    recorder = recorder_of(store)
    loop = asyncio.create_task(recorder.run_for_ever(20))
    try:
        with server.client() as client:
            put(client, *DAY[:3])
            await until(lambda: recorder.waiting == 0)
        server.kill()
        await until(lambda: recorder.waiting is None)
        server.start()
        with server.client() as client:
            put(client, *DAY[3:])
        await until(lambda: recorder.waiting == 0)
        assert await recorder.close(5_000)
    finally:
        await asyncio.wait_for(loop, 5)
        await store.close()
        server.remove()
    assert await ledger(engine, 0) == told(DAY)


async def test_closing_records_what_is_there_within_its_time(
    valkey: ValkeyServer, store: Store, engine: AsyncEngine, recorder_of: MakeRecorder
) -> None:
    recorder = recorder_of(store, batch=2)
    loop = asyncio.create_task(recorder.run_for_ever(3_600_000))
    await asyncio.sleep(0.05)
    with valkey.client() as client:
        put(client, *DAY)
    assert await recorder.close(5_000)
    await asyncio.wait_for(loop, 5)
    assert await ledger(engine, 0) == told(DAY)
    assert not await recorder_of(Stuck()).close(50)


class Stuck:
    """A store that never answers."""

    async def events(self, *_: Any) -> UsageEvents:
        await asyncio.sleep(3_600)
        return UsageEvents()


async def test_what_nobody_expected_does_not_stop_the_other_partitions(
    valkey: ValkeyServer, store: Store, engine: AsyncEngine, recorder_of: MakeRecorder
) -> None:
    class Poisoned(FusedStream):
        async def events(self, partition: int, after: str, most: int) -> UsageEvents:
            if partition == 1:
                raise ValueError("this cannot be read")
            return await self.store.events(partition, after, most)

    recorder = recorder_of(Poisoned(store, Fuse(0)), partitions=(1, 0))
    with valkey.client() as client, structlog.testing.capture_logs() as logs:
        put(client, *DAY)
        assert not await recorder.close(1_000)
    assert (await ledger(engine, 0))["leases"] == oracle.leases(DAY)
    assert [line["event"] for line in logs] == ["usage cannot be recorded", "usage left in the stream"]


async def test_refusals_reach_whoever_records_once(
    valkey: ValkeyServer, store: Store, recorder_of: MakeRecorder, tmp_path: Any
) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/nowhere/x.db")
    recorder = Recorder(engine, store, people.persons_for, clock=lambda: NOW_MS)
    with valkey.client() as client:
        put(client, *DAY)
    with pytest.raises(Refusal, match="database_unavailable"):
        await recorder.record_once(0)
    await engine.dispose()
