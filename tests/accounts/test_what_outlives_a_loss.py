"""What SQL keeps for a store that was lost: tombstones, the longest ttl, which change ended every lease."""

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts.service import Accounts
from seatd.accounts.tombstones import KEPT_MS, Burial
from seatd.database.engine import reading, writing
from seatd.database.schema import partitions, people, tenants, tombstones
from seatd.flows.epochs import next_epoch
from seatd.model import Policy, Tariff, Tombstone
from tests.accounts.conftest import START_MS, Clock

MARGIN_MS = 1_000
ACTOR = "k_test"


async def policy(accounts: Accounts) -> Policy:
    found = await accounts.policy("acme")
    assert found is not None
    return found


async def longest(engine: AsyncEngine) -> int:
    async with reading(engine) as connection:
        return (await connection.execute(select(tenants.c.longest_ttl_ms))).scalar_one()


async def project(accounts: Accounts) -> None:
    await accounts.projected(await accounts.due_projections())


async def opened(engine: AsyncEngine, epoch: int, opened_ms: int) -> None:
    async with writing(engine) as connection:
        if epoch == 1:
            await connection.execute(insert(partitions).values(partition=0, epoch=1, opened_ms=opened_ms))
        else:
            await connection.execute(update(partitions).values(epoch=epoch, opened_ms=opened_ms))


async def test_the_longest_ttl_rises_at_once_and_falls_when_no_such_lease_can_run(
    accounts: Accounts, engine: AsyncEngine, clock: Clock
):
    fields = {"name": "Acme", "tariff": Tariff.TEAM, "lease_ttl_ms": 10_000}
    await accounts.put_tenant("acme", fields, actor=ACTOR)  # type: ignore[arg-type]
    assert await longest(engine) == 10_000
    await project(accounts)
    await accounts.put_tenant("acme", {"lease_ttl_ms": 60_000}, actor=ACTOR)
    assert await longest(engine) == 60_000  # before anybody has projected it
    await project(accounts)
    await accounts.put_tenant("acme", {"lease_ttl_ms": 20_000}, actor=ACTOR)
    clock.now_ms += 100_000
    await accounts.tidy(MARGIN_MS)
    assert await longest(engine) == 60_000  # the seat plane has not heard of the shorter one
    await project(accounts)
    clock.now_ms += 60_000 + MARGIN_MS - 1
    await accounts.tidy(MARGIN_MS)
    assert await longest(engine) == 60_000
    clock.now_ms += 1
    await accounts.tidy(MARGIN_MS)
    assert await longest(engine) == 20_000


async def test_a_projection_of_before_acknowledges_nothing(
    accounts: Accounts, engine: AsyncEngine, clock: Clock
):
    fields = {"name": "Acme", "tariff": Tariff.TEAM, "lease_ttl_ms": 60_000}
    await accounts.put_tenant("acme", fields, actor=ACTOR)  # type: ignore[arg-type]
    early = await accounts.due_projections()
    await accounts.put_tenant("acme", {"lease_ttl_ms": 20_000}, actor=ACTOR)
    await accounts.projected(early)
    clock.now_ms += 600_000
    await accounts.tidy(MARGIN_MS)
    assert await longest(engine) == 60_000


async def test_of_two_tombstones_the_later_start_stands(accounts: Accounts, engine: AsyncEngine, acme: str):
    await accounts.bury([Burial(acme, "ana", 5, "released"), Burial(acme, "bob", 7, "revoked")])
    await accounts.bury([Burial(acme, "ana", 9, "revoked"), Burial(acme, "ana", 8, "released")])
    await accounts.bury([Burial(acme, "ana", 3, "released")])
    assert (await policy(accounts)).tombstones == (
        Tombstone("ana", 9, "revoked"),
        Tombstone("bob", 7, "revoked"),
    )
    async with reading(engine) as connection:
        known = set((await connection.execute(select(people.c.person))).scalars())
        assert set((await connection.execute(select(tombstones.c.person))).scalars()) <= known  # no names


async def test_who_buries_is_told_the_epoch(accounts: Accounts, engine: AsyncEngine, acme: str):
    assert await accounts.bury([Burial(acme, "ana", 5, "released")]) == {}  # SQL has never seen a partition
    assert await next_epoch(engine, 0, 6) == 7
    assert await accounts.bury([Burial(acme, "ana", 6, "released")]) == {0: 7}


async def test_a_tombstone_is_kept_as_long_as_it_matters(accounts: Accounts, acme: str, clock: Clock):
    await accounts.bury([Burial(acme, "ana", 5, "released")])
    clock.now_ms += KEPT_MS - 1
    await accounts.tidy(MARGIN_MS)
    assert (await policy(accounts)).tombstones
    clock.now_ms += 1
    await accounts.tidy(MARGIN_MS)
    assert (await policy(accounts)).tombstones == ()


async def test_only_a_tenant_of_before_a_later_epoch_learns(
    accounts: Accounts, engine: AsyncEngine, acme: str
):
    assert (await policy(accounts)).learn_ttl_ms == 0  # no epoch was ever opened
    await opened(engine, 1, START_MS + 10)
    assert (await policy(accounts)).learn_ttl_ms == 0
    await opened(engine, 2, START_MS + 20)
    assert (await policy(accounts)).learn_ttl_ms == 300_000
    await opened(engine, 3, START_MS - 600_000)  # long before the tenant was made
    assert (await policy(accounts)).learn_ttl_ms == 0


async def test_what_ends_every_lease_names_its_version_and_its_reason(
    accounts: Accounts, acme: str, clock: Clock
):
    def ended(found: Policy) -> tuple[bool, str]:
        return found.ended_version == found.version, found.ended_reason

    assert (await policy(accounts)).ended_version == 0
    await accounts.switch_tariff(acme, Tariff.TEAM, seats=5, actor=ACTOR)
    assert ended(await policy(accounts)) == (True, "tariff_switched")
    await accounts.book(acme, "team", 6, actor=ACTOR)
    assert ended(await policy(accounts)) == (False, "tariff_switched")
    await accounts.put_tenant(acme, {"suspended": True}, actor=ACTOR)
    assert ended(await policy(accounts)) == (True, "suspended")
    await accounts.put_tenant(acme, {"suspended": False}, actor=ACTOR)
    assert ended(await policy(accounts)) == (False, "suspended")
    await accounts.put_tenant(acme, {"tariff": None}, actor=ACTOR)
    assert ended(await policy(accounts)) == (True, "contract_ended")
    trial_until_ms = clock.now_ms + 1_000
    await accounts.put_tenant(acme, {"tariff": Tariff.TEAM, "trial_until_ms": trial_until_ms}, actor=ACTOR)
    assert ended(await policy(accounts)) == (False, "contract_ended")
    clock.now_ms = trial_until_ms + 1
    await accounts.put_tenant(acme, {"tariff": Tariff.TEAM}, actor=ACTOR)
    assert ended(await policy(accounts)) == (True, "trial_expired")
