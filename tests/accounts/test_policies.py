"""Policies of many tenants read together: each as if it had been read alone, and nothing of a neighbour's in it."""

from typing import Any

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts.service import Accounts
from seatd.accounts.tombstones import Burial
from seatd.database.engine import writing
from seatd.database.schema import partitions, tenants
from seatd.model import Scope, Tariff
from tests.accounts.conftest import Clock

ME = "k_test"
SOLD_TO_TENANTS = frozenset({"ocr"})


def partition_of(tenant: str) -> int:
    return len(tenant) % 2


async def house(accounts: Accounts, engine: AsyncEngine, clock: Clock) -> None:
    """Tenants that differ in everything that a policy says."""
    wanted: dict[str, dict[str, Any]] = {
        "team": {"tariff": Tariff.TEAM, "seats": 5, "lease_ttl_ms": 60_000},
        "agents": {"tariff": Tariff.AGENT, "seats": 2},
        "nothing": {},
        "trial": {"tariff": Tariff.TEAM, "seats": 3, "trial_until_ms": clock.now_ms + 1_000},
        "over": {"tariff": Tariff.AGENT, "seats": 3, "trial_until_ms": clock.now_ms + 10},
        "suspended": {"tariff": Tariff.TEAM, "seats": 4, "suspended": True},
        "of_tomorrow": {"tariff": Tariff.TEAM, "seats": 6},
    }
    for tenant, fields in wanted.items():
        await accounts.put_tenant(tenant, {"name": tenant, **fields}, actor=ME)  # type: ignore[typeddict-item]
        await accounts.add_key(tenant, Scope.CLIENT, actor=ME)
    for tenant, product, user in (
        ("agents", "agent", "ana"),
        ("agents", "social", "ana"),
        ("agents", "agent", "bob"),
        ("team", "social", "ana"),
    ):
        await accounts.bind(tenant, product, user, actor=ME)
    await accounts.book("team", "ocr", 1, actor=ME)
    burials = [Burial("team", "ana", 5, "released"), Burial("team", "bob", 6, "revoked")]
    await accounts.bury([*burials, Burial("agents", "ana", 7, "released")])
    clock.now_ms += 100
    async with writing(engine) as connection:
        opened = [{"partition": number, "epoch": 2 + number, "opened_ms": clock.now_ms} for number in (0, 1)]
        await connection.execute(insert(partitions), opened)
        changed = update(tenants).where(tenants.c.id == "of_tomorrow").values(changed_ms=clock.now_ms + 5_000)
        await connection.execute(changed)  # by a seatd whose clock is ahead


async def test_each_is_what_it_is_alone(accounts: Accounts, engine: AsyncEngine, clock: Clock) -> None:
    await house(accounts, engine, clock)
    ids = [tenant.id for tenant in (await accounts.tenants(limit=100)).items]
    together = await accounts.policies(
        [*ids, "nobody"], tenant_scoped=SOLD_TO_TENANTS, partition_of=partition_of
    )
    alone = {
        tenant: await accounts.policy(tenant, tenant_scoped=SOLD_TO_TENANTS, partition=partition_of(tenant))
        for tenant in ids
    }
    assert together == alone
    assert len({repr(policy) for policy in alone.values()}) == len(ids) == 7
    team, agents = together["team"], together["agents"]
    assert (team.bindings, team.open_addons) == ({"ana": ("social",)}, ("ocr",))
    assert (agents.bindings, agents.open_addons) == ({"ana": ("agent", "social"), "bob": ("agent",)}, ())
    assert [len(policy.tombstones) for policy in (team, agents, together["nothing"])] == [2, 1, 0]
    assert {policy.epoch for policy in together.values()} == {2, 3}
    assert [len(policy.keys) for policy in together.values()] == [1] * 7
