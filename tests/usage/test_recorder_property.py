"""Whatever streams go through, and however often they are read: the ledger is what an oracle makes of all events."""

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts.people import persons_for
from seatd.database.engine import make_engine, writing
from seatd.database.schema import recorder_cursors
from seatd.model import UsageEvent
from seatd.usage.recorder import Recorder
from tests.usage import oracle
from tests.usage.conftest import NOW_MS
from tests.usage.ledgers import MemoryStream, cursor, ledger

REASONS = ["expired", "expired", "released", "revoked", "taken_over"]
_numbers = count(1)


@st.composite
def epochs(draw: st.DrawFn) -> list[UsageEvent]:
    """Events of up to three epochs, numbered; of a lease at most one of each kind in an epoch."""
    events: list[UsageEvent] = []
    for epoch in range(1, draw(st.sampled_from([3, 2, 1])) + 1):
        kinds = [(f"l{n}", kind) for n in range(2) for kind in ("started", "ended", "adopted")]
        chosen = draw(st.lists(st.sampled_from([*kinds, ("", "denied"), ("", "sample")]), max_size=10))
        told: set[tuple[str, str]] = set()
        for lease, kind in chosen:
            if lease and (lease, kind) in told:
                continue
            told.add((lease, kind))
            events.append(_event(draw, epoch, sum(e.epoch == epoch for e in events) + 1, lease, kind))
    return events


def _event(draw: st.DrawFn, epoch: int, seq: int, lease: str, kind: str) -> UsageEvent:
    at_ms = 60_000 * draw(st.integers(0, 3)) + (0 if kind == "sample" else draw(st.integers(0, 3)))
    tenant = "a" if lease in ("", "l0") else "b"
    user = f"user-{lease}" if lease else draw(st.sampled_from(["ana", "bo"]))
    return UsageEvent(
        0,
        epoch,
        seq,
        "",
        kind,  # type: ignore[arg-type]  # one of the kinds
        tenant,
        at_ms,
        lease=lease,
        user="" if kind == "sample" else user,
        tariff="team" if kind in ("started", "adopted") else "",
        reason=draw(st.sampled_from(REASONS)) if kind == "ended" else "no_seat" if kind == "denied" else "",
        numbers=tuple(draw(st.integers(0, 3)) for _ in range(5)) if kind == "sample" else (0,) * 5,  # type: ignore[arg-type]  # five
    )


deeds = st.lists(
    st.sampled_from(
        ["add", "add", "add", "drop", "drop", "late", "twice", "record", "record", "both", "restore"]
    )
    | st.tuples(st.just("rewind"), st.integers(0, 9)),
    min_size=4,
    max_size=40,
)


@pytest.fixture
def runner(database_url: str) -> Iterator[tuple[asyncio.Runner, AsyncEngine]]:
    with asyncio.Runner() as made:
        engine = make_engine(database_url)
        yield made, engine
        made.run(engine.dispose())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(epochs(), deeds, st.integers(1, 5))
def test_the_ledger_is_what_the_oracle_says(
    runner: tuple[asyncio.Runner, AsyncEngine], events: list[UsageEvent], deeds: list[Any], batch: int
) -> None:
    loop, engine = runner
    loop.run(play(engine, events, deeds, batch))


async def play(engine: AsyncEngine, events: list[UsageEvent], deeds: list[Any], batch: int) -> None:
    world = World(engine, next(_numbers), events, batch)
    for deed in deeds:
        await world.do(*(deed if isinstance(deed, tuple) else (deed,)))
    await world.finish()


class World:
    """A stream, two recorders of its partition, and what became of each event."""

    def __init__(self, engine: AsyncEngine, partition: int, events: list[UsageEvent], batch: int) -> None:
        self.engine, self.partition, self.prefix = engine, partition, f"x{partition}-"
        self.to_come = [self._mine(event) for event in events]
        self.dropped: list[UsageEvent] = []
        self.stream = MemoryStream()
        self.recorders = [
            Recorder(engine, self.stream, persons_for, clock=lambda: NOW_MS, batch=batch) for _ in range(2)
        ]
        self.cursors: list[tuple[Any, ...]] = []

    def _mine(self, event: UsageEvent) -> UsageEvent:
        return event._replace(tenant=self.prefix + event.tenant, partition=self.partition)

    async def do(self, deed: str, number: int = 0) -> None:
        if deed == "add" and self.to_come:
            self.stream.add(self.to_come.pop(0))
        elif deed == "drop" and self.to_come:
            self.dropped.append(self.to_come.pop(0))
        elif deed == "late" and self.dropped:
            self.stream.add(self.dropped.pop())
        elif deed == "twice" and self.stream.all:
            self.stream.add(self.stream.all[-1])
        elif deed == "record":
            await self.recorders[0].record_once(self.partition)
        elif deed == "both":
            await asyncio.gather(*(each.record_once(self.partition) for each in self.recorders))
        elif deed == "restore":
            self.stream.restore()
        elif deed == "rewind" and self.cursors:
            await self.rewind(self.cursors[number % len(self.cursors)])
        if deed in ("record", "both") and (found := await cursor(self.engine, self.partition)):
            self.cursors.append(found)

    async def rewind(self, older: tuple[Any, ...]) -> None:
        """The database comes back from an older copy of the cursor, and the store with all it had."""
        row = recorder_cursors.c
        values = {"stream_id": older[1], "epoch": older[2], "seq": older[3]}
        async with writing(self.engine) as connection:
            await connection.execute(
                update(recorder_cursors).where(row.partition == self.partition).values(values)
            )
        self.stream.restore()

    async def finish(self) -> None:
        for event in [*self.to_come, *self.dropped[::2]]:  # half of what was lost comes after all
            self.stream.add(event)
        for recorder in self.recorders:
            while self.stream.entries:
                await recorder.record_once(self.partition)
        seen = self.stream.all
        assert await ledger(self.engine, self.partition, self.prefix) == {
            "leases": oracle.leases(seen),
            "denials": oracle.denials(seen),
            "samples": oracle.samples(seen),
            "missing": oracle.missing(seen),
        }
