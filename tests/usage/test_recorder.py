"""The recorder between a real store and real databases: killed anywhere, cut off from either, raced by another."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from sqlalchemy import event as sql_event
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts import people
from seatd.database.engine import make_engine, reading, writing
from seatd.database.schema import ledger_leases, seq_gaps
from seatd.model import UsageEvent, UsageEvents
from seatd.seats.store import Store, StoreOptions, connect
from seatd.telemetry import RECORDED, SEQ_GAPS
from seatd.usage.recorder import Recorder
from tests.usage.conftest import NOW_MS
from tests.usage.day import DAY, Fuse, FusedStream, Killed, MakeRecorder, all_of, ended, started, told
from tests.usage.ledgers import STREAM, cursor, ledger, put
from tests.valkey import ValkeyServer


async def test_records_and_trims(
    valkey: ValkeyServer, store: Store, engine: AsyncEngine, recorder_of: MakeRecorder
) -> None:
    with valkey.client() as client:
        put(client, *DAY)
        before = {
            kind: RECORDED.labels(kind)._value.get() for kind in ("started", "ended", "denied", "sample")
        }
        assert await all_of(recorder_of(store, batch=3)) == len(DAY)
        assert client.xlen(STREAM.format(0)) == 0
    assert await ledger(engine, 0) == told(DAY)
    assert {kind: RECORDED.labels(kind)._value.get() - was for kind, was in before.items()} == {
        "started": 3,
        "ended": 2,
        "denied": 1,
        "sample": 1,
    }
    async with reading(engine) as connection:
        rows = (await connection.execute(select(ledger_leases).order_by(ledger_leases.c.lease))).all()
    assert [row.labels for row in rows] == [{"site": "Köln"}] * 3
    assert all(row.person.startswith("p_") for row in rows)


@contextmanager
def fused(engine: AsyncEngine, fuse: Fuse) -> Iterator[None]:
    """Step before each statement, and around each commit."""
    sync = engine.sync_engine

    def statement(_c: Any, _cursor: Any, text: str, *_: Any) -> None:
        fuse.step(f"before {text[:40]}")

    def before_commit(_c: Any) -> None:
        fuse.step("before commit")

    do_commit = sync.dialect.do_commit

    def commit(connection: Any) -> None:
        do_commit(connection)
        fuse.step("after commit")

    sql_event.listen(sync, "before_cursor_execute", statement)
    sql_event.listen(sync, "commit", before_commit)
    vars(sync.dialect)["do_commit"] = commit
    try:
        yield
    finally:
        sql_event.remove(sync, "before_cursor_execute", statement)
        sql_event.remove(sync, "commit", before_commit)
        del vars(sync.dialect)["do_commit"]  # the class's own shows again


@pytest.mark.parametrize("after", ["restarted", "went on"])
async def test_killed_between_any_two_steps_nothing_is_lost_or_doubled(
    valkey: ValkeyServer,
    store: Store,
    database_url: str,
    recorder_of: MakeRecorder,
    engine: AsyncEngine,
    after: str,
) -> None:
    killed: list[str] = []
    for at in range(1, 200):
        # Each attempt is an epoch of its own, in which other leases live; one event of it was lost.
        events = [_of_attempt(event, at) for event in DAY if event.seq != 5]
        fuse = Fuse(at)
        with valkey.client() as client:
            put(client, *events)
        doomed = make_engine(database_url)
        recorder = Recorder(
            doomed, FusedStream(store, fuse), people.persons_for, clock=lambda: NOW_MS, batch=3
        )
        try:
            with fused(doomed, fuse):
                await all_of(recorder)
        except Killed as step:
            killed.append(str(step))
        survivor = recorder if after == "went on" else recorder_of(store, batch=3)
        while await store.backlog(0):
            await survivor.record_once(0)
        await doomed.dispose()
        found = await ledger(engine, 0, f"a{at}-")
        assert found.pop("missing") >= {(at, 5)}, fuse.steps[-1]
        assert {"missing": set(), **found} == told(events) | {"missing": set()}, fuse.steps[-1]
        if fuse.left > 0:
            break
    assert {"before commit", "after commit", "before trim", "after trim", "after events"} <= set(killed)
    assert (await ledger(engine, 0))["missing"] == {(epoch, 5) for epoch in range(1, at + 1)}


def _of_attempt(event: UsageEvent, epoch: int) -> UsageEvent:
    return event._replace(epoch=epoch, tenant=f"a{epoch}-{event.tenant}")


async def test_a_recorder_left_behind_neither_writes_nor_turns_the_cursor_back(
    valkey: ValkeyServer, store: Store, engine: AsyncEngine, recorder_of: MakeRecorder
) -> None:
    may_go = asyncio.Event()

    class Slow(FusedStream):
        async def events(self, partition: int, after: str, most: int) -> UsageEvents:
            found = await self.store.events(partition, after, most)
            await may_go.wait()
            return found

    other = Store(connect(valkey.url, StoreOptions()), StoreOptions())
    with valkey.client() as client:
        behind = recorder_of(Slow(other, Fuse(0)), batch=2)
        put(client, *DAY[:1])
        may_go.set()
        assert await behind.record_once(0) == 1  # from here on it knows where the cursor stands
        may_go.clear()
        put(client, *DAY[1:6])
        late = asyncio.create_task(behind.record_once(0))
        await asyncio.sleep(0.1)
        assert await all_of(recorder_of(store, batch=2)) == 5
        may_go.set()
        assert await late == 0
        put(client, *DAY[6:])
        await all_of(recorder_of(store, batch=3))
    await other.close()
    assert await ledger(engine, 0) == told(DAY)


async def test_trims_only_what_is_committed(
    valkey: ValkeyServer, store: Store, engine: AsyncEngine, recorder_of: MakeRecorder
) -> None:
    """At each trim, another reader of the database finds all that is dropped."""
    found: list[Any] = []

    class Watched(FusedStream):
        def __getattr__(self, name: str) -> Any:
            async def call(*arguments: Any) -> Any:
                if name == "trim":
                    found.append(await ledger(engine, 0))
                return await getattr(self.store, name)(*arguments)

            return call

    with valkey.client() as client:
        put(client, *DAY)
    await all_of(recorder_of(Watched(store, Fuse(0)), batch=3))
    assert found == [told(DAY[:3]), told(DAY[:6]), told(DAY)]


async def test_a_gap_is_an_alarm_and_closes_when_its_events_come(
    valkey: ValkeyServer, store: Store, engine: AsyncEngine, recorder_of: MakeRecorder
) -> None:
    recorder = recorder_of(store)
    with valkey.client() as client, structlog.testing.capture_logs() as logs:
        gaps = SEQ_GAPS._value.get()
        put(client, started(1, "l1"), ended(5, "l1"))
        await all_of(recorder)
        assert (await ledger(engine, 0))["missing"] == {(1, 2), (1, 3), (1, 4)}
        assert SEQ_GAPS._value.get() == gaps + 1
        assert [line["event"] for line in logs if line["log_level"] == "error"] == ["usage events were lost"]
        async with reading(engine) as connection:
            (row,) = (await connection.execute(select(seq_gaps))).all()
        assert (row.from_seq, row.to_seq, row.noticed_ms) == (2, 4, NOW_MS)
        put(client, started(3, "l2"))
        await all_of(recorder)
        assert (await ledger(engine, 0))["missing"] == {(1, 2), (1, 4)}
        put(client, ended(2, "l3"), ended(4, "l2"))
        await all_of(recorder)
    assert (await ledger(engine, 0))["missing"] == set()


async def test_the_first_events_of_an_epoch_lost_are_a_gap(
    valkey: ValkeyServer, store: Store, engine: AsyncEngine, recorder_of: MakeRecorder
) -> None:
    with valkey.client() as client:
        put(client, started(1, "l1"), ended(3, "l1", epoch=4, reason="expired"))
    await all_of(recorder_of(store))
    assert (await ledger(engine, 0))["missing"] == {(4, 1), (4, 2)}


async def test_an_end_without_start_is_kept_and_marked(
    valkey: ValkeyServer, store: Store, engine: AsyncEngine, recorder_of: MakeRecorder
) -> None:
    with valkey.client() as client:
        put(client, ended(2, "l1"))
    await all_of(recorder_of(store))
    assert (await ledger(engine, 0))["leases"] == {("acme", "l1"): ("ana", "", None, 2_000, "released")}
    with valkey.client() as client:
        put(client, started(1, "l1"))
    await all_of(recorder_of(store))
    assert await ledger(engine, 0) == told([started(1, "l1"), ended(2, "l1")]) | {"missing": set()}


async def test_a_store_that_came_back_empty_is_read_though_its_ids_begin_anew(
    valkey: ValkeyServer, store: Store, engine: AsyncEngine, recorder_of: MakeRecorder
) -> None:
    recorder = recorder_of(store)
    with valkey.client() as client:
        put(client, started(1, "l1"))
        await all_of(recorder)
        client.flushall()
        stale = ended(1, "l1", epoch=2, reason="expired")
        put(client, stale, entry_id="1-1")
    assert await all_of(recorder) == 1
    assert await ledger(engine, 0) == told([started(1, "l1"), stale])


async def test_of_two_recorders_one_writes(
    valkey: ValkeyServer, store: Store, engine: AsyncEngine, recorder_of: MakeRecorder
) -> None:
    other = Store(connect(valkey.url, StoreOptions()), StoreOptions())
    first, second = recorder_of(store, batch=2), recorder_of(other, batch=2)
    with valkey.client() as client:
        put(client, *DAY)
        while client.xlen(STREAM.format(0)):
            await asyncio.gather(first.record_once(0), second.record_once(0))
    await other.close()
    assert await ledger(engine, 0) == told(DAY)


async def test_the_end_of_a_lease_does_not_bring_an_erased_name_back(
    valkey: ValkeyServer, store: Store, engine: AsyncEngine, recorder_of: MakeRecorder
) -> None:
    recorder = recorder_of(store)
    with valkey.client() as client:
        put(client, started(1, "l1"))
        await all_of(recorder)
        async with writing(engine) as connection:
            person = await people.known(connection, "acme", "ana")
            assert person is not None
            await people.forget(connection, "acme", person)
        put(client, ended(2, "l1"))
        await all_of(recorder)
    async with reading(engine) as connection:
        assert await people.known(connection, "acme", "ana") is None
    assert (await ledger(engine, 0))["leases"] == {("acme", "l1"): (None, "team", 1_000, 2_000, "released")}


async def test_partitions_are_numbered_apart(
    valkey: ValkeyServer, store: Store, engine: AsyncEngine, recorder_of: MakeRecorder
) -> None:
    recorder = recorder_of(store, partitions=(0, 1))
    elsewhere = started(1, "l9")._replace(partition=1, tenant="bolt")
    with valkey.client() as client:
        put(client, started(1, "l1"), elsewhere)
    assert await recorder.close(5_000)
    assert (await cursor(engine, 0) or ())[2:] == (1, 1)
    assert (await cursor(engine, 1) or ())[2:] == (1, 1)
    assert (await ledger(engine, 1))["leases"].keys() == {("acme", "l1"), ("bolt", "l9")}
