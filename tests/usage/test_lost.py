"""What was lost with the store is ended in the ledger, once nobody can come back with it."""

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts.people import persons_for
from seatd.database.engine import reading, writing
from seatd.database.schema import ledger_leases, partitions
from seatd.model import UsageEvent
from seatd.usage.lost import LOST_AFTER_MS, end_lost
from seatd.usage.writing import write

OPENED = 1_800_000_000_000


def event(kind, lease: str, at_ms: int, epoch: int, reason: str = "") -> UsageEvent:
    return UsageEvent(0, epoch, 1, "1-1", kind, "acme", at_ms, lease, "ana", "team", reason)


async def ledger(engine: AsyncEngine) -> dict[str, tuple[object, ...]]:
    columns = (
        ledger_leases.c.lease,
        ledger_leases.c.started_ms,
        ledger_leases.c.ended_ms,
        ledger_leases.c.end_reason,
    )
    async with reading(engine) as connection:
        return {row[0]: tuple(row[1:]) for row in await connection.execute(select(*columns))}


async def test_only_what_no_epoch_adopted_is_ended_and_at_the_loss(engine: AsyncEngine):
    async with writing(engine) as connection:
        await connection.execute(insert(partitions).values(partition=0, epoch=3, opened_ms=OPENED))
        await write(
            connection,
            0,
            [
                event("started", "lost", OPENED - 9_000, 2),
                event("started", "adopted", OPENED - 8_000, 1),
                event("adopted", "adopted", OPENED + 1_000, 3),
                event("started", "lost-again", OPENED - 8_000, 1),
                event("adopted", "lost-again", OPENED - 4_000, 2),
                event("started", "released", OPENED - 8_000, 2),
                event("ended", "released", OPENED - 7_000, 2, "released"),
                event("started", "new", OPENED + 5, 3),
            ],
            persons_for,
        )
    async with writing(engine) as connection:
        assert await end_lost(connection, OPENED + LOST_AFTER_MS - 1) == 0
        assert await end_lost(connection, OPENED + LOST_AFTER_MS) == 2
        assert await end_lost(connection, OPENED + LOST_AFTER_MS) == 0
    assert await ledger(engine) == {
        "lost": (OPENED - 9_000, OPENED, "expired"),
        "adopted": (OPENED - 8_000, None, None),
        "lost-again": (OPENED - 8_000, OPENED, "expired"),
        "released": (OPENED - 8_000, OPENED - 7_000, "released"),
        "new": (OPENED + 5, None, None),
    }


async def test_an_adoption_that_is_recorded_late_takes_the_end_back(engine: AsyncEngine):
    async with writing(engine) as connection:
        await connection.execute(insert(partitions).values(partition=0, epoch=2, opened_ms=OPENED))
        await write(connection, 0, [event("started", "l", OPENED - 9_000, 1)], persons_for)
        assert await end_lost(connection, OPENED + LOST_AFTER_MS) == 1
        await write(connection, 0, [event("adopted", "l", OPENED + 1_000, 2)], persons_for)
    assert await ledger(engine) == {"l": (OPENED - 9_000, None, None)}


async def test_the_first_epoch_has_lost_nothing(engine: AsyncEngine):
    async with writing(engine) as connection:
        await connection.execute(insert(partitions).values(partition=0, epoch=1, opened_ms=OPENED))
        await write(connection, 0, [event("started", "l", OPENED - 9_000, 1)], persons_for)
        assert await end_lost(connection, OPENED + 10 * LOST_AFTER_MS) == 0
