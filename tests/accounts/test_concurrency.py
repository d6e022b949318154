"""Many at once, through several engines as through several seatds: limits hold, chains stay whole."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from itertools import pairwise

import pytest
from sqlalchemy import func, select

from seatd.accounts import outbox as outbox_rows
from seatd.accounts.changes import lock_tenant
from seatd.accounts.people import persons_for
from seatd.accounts.records import Metered
from seatd.accounts.service import Accounts
from seatd.database.engine import make_engine, reading, writing
from seatd.database.schema import bookings, outbox, people
from seatd.model import Refusal, Scope, Tariff

ME = "k_test"


@pytest.fixture
async def seatds(database_url: str) -> AsyncIterator[list[Accounts]]:
    """Two account planes over one database, each with connections of its own."""
    made = [Accounts(make_engine(database_url)) for _ in range(2)]
    await made[0].put_tenant("acme", {"name": "Acme", "tariff": Tariff.AGENT, "seats": 5}, actor=ME)
    yield made
    for accounts in made:
        await accounts.engine.dispose()


async def test_concurrent_binds_never_pass_the_booking(seatds: list[Accounts]) -> None:
    async def bind(number: int) -> str | bool:
        try:
            return await seatds[number % 2].bind("acme", "agent", f"u{number}", actor=ME)
        except Refusal as refusal:
            return refusal.code

    outcomes = await asyncio.gather(*(bind(number) for number in range(20)))
    assert outcomes.count(True) == 5
    assert outcomes.count("no_booking_left") == 15
    assert len((await seatds[0].bindings("acme", "agent")).items) == 5


async def test_a_booking_and_a_binding_never_miss_each_other(seatds: list[Accounts]) -> None:
    for number in range(4):
        await seatds[0].bind("acme", "agent", f"u{number}", actor=ME)
    await asyncio.gather(
        seatds[0].bind("acme", "agent", "u4", actor=ME),
        seatds[1].book("acme", "agent", 4, effective="now", actor=ME),
        return_exceptions=True,
    )
    bound = len((await seatds[0].bindings("acme", "agent")).items)
    assert bound <= (await seatds[0].tenant("acme")).capacity


async def test_the_same_said_at_once_is_done_once(seatds: list[Accounts]) -> None:
    bound = await asyncio.gather(
        *(seatds[number % 2].bind("acme", "agent", "ana", actor=ME) for number in range(8))
    )
    assert sorted(bound) == [False] * 7 + [True]
    made = await asyncio.gather(
        *(seatds[number % 2].put_tenant("new", {"name": "N"}, actor=ME) for number in range(8))
    )
    assert sorted(change.created for change in made) == [False] * 7 + [True]
    metered = await asyncio.gather(
        *(seatds[number % 2].meter("acme", "pages", "1", "m", at_ms=1, actor=ME) for number in range(8))
    )
    assert metered.count(Metered("pages", "m", "1", 1, created=True)) == 1


async def test_the_audit_log_stays_whole_and_versions_rise_by_one(seatds: list[Accounts]) -> None:
    await seatds[0].put_tenant("other", {"name": "Other"}, actor=ME)
    before = {tenant.id: tenant.policy_version for tenant in (await seatds[0].tenants()).items}
    work: list[Awaitable[object]] = []
    for number in range(12):
        accounts = seatds[number % 2]
        work.append(accounts.add_key("acme", Scope.CLIENT, actor=ME))
        work.append(accounts.bind("other", "social", f"u{number}", actor=ME))
        work.append(accounts.add_key(None, Scope.BILLING, actor=ME))
    await asyncio.gather(*work)
    after = {tenant.id: tenant.policy_version for tenant in (await seatds[0].tenants()).items}
    assert after == {tenant: version + 12 for tenant, version in before.items()}
    rows = (await seatds[0].audit_log()).items
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    assert all(later.prev_hash == earlier.hash for earlier, later in pairwise(rows))
    assert await seatds[1].audit_broken_at() is None
    async with reading(seatds[0].engine) as connection:
        queued = await connection.execute(select(func.count()).select_from(outbox))
        assert queued.scalar_one() == sum(after.values())


async def test_a_scheduled_booking_raises_the_version_once(database_url: str) -> None:
    class Later:
        now_ms = 1_773_309_600_000

        def __call__(self) -> int:
            return self.now_ms

    clock = Later()
    both = [Accounts(make_engine(database_url), clock) for _ in range(2)]
    await both[0].put_tenant("a", {"name": "A", "tariff": Tariff.TEAM, "seats": 5}, actor=ME)
    decision = await both[0].book("a", "team", 3, actor=ME)
    await both[0].projected(await both[0].due_projections())
    assert await both[0].due_projections() == ()
    assert await both[0].next_due_ms() == decision.booking.effective_ms
    before = await both[0].policy("a")
    clock.now_ms = decision.booking.effective_ms
    found = await asyncio.gather(*(accounts.due_projections() for accounts in both * 3))
    assert all([due.tenant for due in one] == ["a"] for one in found)
    policy = await both[1].policy("a")
    assert before is not None
    assert policy is not None
    assert (before.cap, policy.cap) == (5, 3)
    assert policy.version == before.version + 1
    for accounts in both:
        await accounts.engine.dispose()


async def test_who_comes_second_to_what_fell_due_raises_no_version(seatds: list[Accounts]) -> None:
    first, second = seatds
    decision = await first.book("acme", "agent", 3, actor=ME)
    version = (await first.tenant("acme")).policy_version

    async def fall_due(accounts: Accounts) -> None:
        async with writing(accounts.engine) as connection:
            await outbox_rows.fall_due(connection, decision.booking.effective_ms, limit=10)

    async with writing(first.engine) as connection:
        await lock_tenant(connection, "acme")
        waiting = asyncio.create_task(fall_due(second))
        await asyncio.sleep(0.3)  # it has seen the row, and waits for the tenant (SQLite: to begin)
        await outbox_rows.fall_due(connection, decision.booking.effective_ms, limit=10)
    await waiting
    assert (await first.tenant("acme")).policy_version == version + 1


async def test_a_name_is_one_person_whoever_meets_it_first(seatds: list[Accounts]) -> None:
    pairs = [(tenant, f"u{number}") for tenant in ("acme", "unknown") for number in range(300)]

    async def meet(accounts: Accounts, wanted: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
        async with writing(accounts.engine) as connection:
            return await persons_for(connection, wanted)

    found = await asyncio.gather(
        meet(seatds[0], pairs), meet(seatds[1], pairs[::-1]), meet(seatds[0], pairs[100:400])
    )
    assert found[0] == found[1]
    assert found[2].items() <= found[0].items()
    assert set(found[0]) == set(pairs)
    async with reading(seatds[0].engine) as connection:
        assert len((await connection.execute(select(people))).all()) == len(pairs)
        assert len((await connection.execute(select(bookings))).all()) == 1
