"""After a month is frozen its rows stay as they are, and what is known late is known all the same."""

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.database.engine import reading, writing
from seatd.database.schema import late_facts, ledger_leases, months
from seatd.model import UsageEvent
from seatd.usage import chain
from seatd.usage.ledger import links_of, sittings
from tests.usage import oracle
from tests.usage.test_recorder_property import World, _numbers, deeds, epochs, runner

__all__ = ["runner"]

START_MS, END_MS = 60_002, 120_001
PERIOD = "1970-01"
FROM_EVER, FOR_EVER = 0, 1 << 60


class Freezing(World):
    """A world in which a month is frozen between two deeds."""

    async def freeze(self) -> None:
        values = {
            "period": PERIOD,
            "state": "closing",
            "token": "c",
            "start_ms": START_MS,
            "end_ms": END_MS,
            "timezone": "UTC",
            "price_list": "v",
            "began_ms": 0,
        }
        async with writing(self.engine) as connection:
            await connection.execute(insert(months), [values])
        self.before = await self.within()
        self.known_before = await self.known()

    async def within(self) -> dict[Any, Any]:
        """What the rows say of the frozen month."""
        async with reading(self.engine) as connection:
            rows = (await connection.execute(select(ledger_leases))).all()
        return {
            (row.tenant, row.lease): (row.person, row.tariff, row.started_ms, clipped(row.ended_ms))
            for row in rows
            if row.tenant.startswith(self.prefix)
            and lies(row.started_ms, row.ended_ms)
            # What has no start is in no bill.
            and row.started_ms is not None
        }

    async def known(self) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        async with reading(self.engine) as connection:
            for tenant in (self.prefix + "a", self.prefix + "b"):
                for each in await sittings(connection, tenant, -1, FOR_EVER, after=None, limit=99):
                    told = (each.user, each.tariff, each.started_ms, each.ended_ms)
                    found[tenant, each.lease] = (*told, each.end_reason)
        return found

    async def finish(self) -> None:
        for event in [*self.to_come, *self.dropped]:
            self.stream.add(event)
        while self.stream.entries:
            await self.recorders[0].record_once(self.partition)
        known = await self.known()
        told = oracle.leases(self.stream.all)  # of what has neither start nor end nobody can say when it was
        told = {key: lease for key, lease in told.items() if lease[2:4] != (None, None)}
        assert known == told
        assert await self.within() == self.before
        noted = await self.noted()
        changed = {
            key[0] for key in known if seen_within(known[key]) != seen_within(self.known_before.get(key))
        }
        assert changed <= noted  # some come back to what they were
        await self.chain_holds(known)

    async def noted(self) -> set[str]:
        async with reading(self.engine) as connection:
            rows = await connection.execute(select(late_facts.c.tenant).where(late_facts.c.period == PERIOD))
            return {tenant for tenant in rows.scalars() if tenant.startswith(self.prefix)}

    async def chain_holds(self, known: dict[Any, Any]) -> None:
        async with reading(self.engine) as connection:
            head = (await chain.heads(connection)).get(self.partition, chain.Head())
            assert await chain.first_broken(connection, self.partition, chain.Head(), head) is None
            rows = (
                await connection.execute(
                    text('SELECT count(*) FROM usage_chain WHERE "partition" = :p'), {"p": self.partition}
                )
            ).scalar()
            assert rows == head.pos
            links = [
                link
                for tenant in ("a", "b")
                for link in (await links_of(connection, [self.prefix + tenant], -1, FOR_EVER))[
                    self.prefix + tenant
                ]
            ]
        assert len(links) == len(known)
        assert all(
            chain.link_hash(link.prev, link.partition, link.pos, link.row) == link.hash for link in links
        )


def lies(started_ms: int | None, ended_ms: int | None) -> bool:
    begin = started_ms if started_ms is not None else ended_ms or 0
    return begin < END_MS and (ended_ms is None or ended_ms > START_MS)


def clipped(ended_ms: int | None) -> int:
    return END_MS if ended_ms is None else min(ended_ms, END_MS)


def seen_within(known: Any) -> Any:
    if known is None or known[2] is None or not lies(known[2], known[3]):
        return None
    return (known[0], known[1], known[2], clipped(known[3]))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(epochs(), deeds, deeds, st.integers(1, 5))
def test_what_is_known_late_changes_no_row_of_a_frozen_month(
    runner: tuple[asyncio.Runner, AsyncEngine],
    events: list[UsageEvent],
    before: list[Any],
    after: list[Any],
    batch: int,
) -> None:
    loop, engine = runner
    loop.run(play(engine, events, before, after, batch))


async def play(
    engine: AsyncEngine, events: list[UsageEvent], before: list[Any], after: list[Any], batch: int
) -> None:
    world = Freezing(engine, next(_numbers) + 100_000, events, batch)
    try:
        for deed in before:
            await world.do(*(deed if isinstance(deed, tuple) else (deed,)))
        await world.freeze()
        for deed in after:
            await world.do(*(deed if isinstance(deed, tuple) else (deed,)))
        await world.finish()
    finally:
        async with writing(engine) as connection:
            await connection.execute(delete(months))
            await connection.execute(delete(late_facts))
