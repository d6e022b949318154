"""Policies brought to the seat plane: all of them after a start, many in a script call, none of them lost to another's failure."""

from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts.base import wall_clock_ms
from seatd.accounts.service import Accounts
from seatd.flows import policy as under_test
from seatd.flows.policy import WEIGHT_MAX, Projector
from seatd.model import Policy, Refusal, Tariff
from tests.seats.plane import plane
from tests.valkey import ValkeyServer

IDS = [f"t{number:02}" for number in range(25)]


async def nothing_sold_to_tenants() -> frozenset[str]:
    return frozenset()


@pytest.fixture
async def accounts(engine: AsyncEngine) -> Accounts:
    made = Accounts(engine, wall_clock_ms)
    for tenant in IDS:
        await made.put_tenant(tenant, {"name": tenant, "tariff": Tariff.TEAM, "seats": 3}, actor="k_test")
    return made


async def test_a_start_projects_all_page_by_page_in_few_calls(
    accounts: Accounts, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "ROWS_A_ROUND", 10)
    monkeypatch.setattr(under_test, "READ_AT_ONCE", 4)
    async with plane(valkey) as made:
        projector = Projector(accounts, made.seats, nothing_sold_to_tenants)
        await projector._project_everything()
        assert await made.store.tenants(0) == IDS
        assert [(await made.seats.fullness(tenant)).capacity for tenant in IDS] == [3] * len(IDS)
        calls = [call for trip in made.watched.trips for call in trip if call[0] == "project"]
        assert sum(count for _, count in calls) >= len(IDS)
        assert len(calls) < len(IDS)
        assert not projector.everything
        assert await accounts.due_projections() == ()


async def test_a_policy_that_cannot_be_put_stops_none_that_was_read_with_it(
    accounts: Accounts, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "READ_AT_ONCE", len(IDS))
    async with plane(valkey) as made:
        put_policy = made.seats.put_policy

        async def put(policy: Policy) -> bool:
            if policy.tenant == IDS[3]:
                raise Refusal("store_unavailable", retry_after_ms=1)
            return await put_policy(policy)

        monkeypatch.setattr(made.seats, "put_policy", put)
        projector = Projector(accounts, made.seats, nothing_sold_to_tenants)
        with pytest.raises(Refusal, match="store_unavailable"):
            await projector._project_everything()
        assert await made.store.tenants(0) == [tenant for tenant in IDS if tenant != IDS[3]]
        assert projector.everything, "it is tried again"
        assert len(await accounts.due_projections()) > 0


def test_few_large_policies_share_a_call_and_many_small_ones() -> None:
    small = Policy("acme", 1, Tariff.TEAM, 1, ttl_ms=10_000)
    large = replace(small, bindings={f"u{number}": ("agent",) for number in range(WEIGHT_MAX)})
    lots = [*under_test._lots([small] * 30 + [large] * 3 + [small] * 150)]
    assert [len(lot) for lot in lots] == [31, 1, 1, 100, 50]
    assert [*under_test._lots([])] == []
