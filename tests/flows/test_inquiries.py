"""Questions about months, over the worked example in rows: explanations, advice, peaks, suppositions."""

from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.billing.historyfile import read_history
from seatd.billing.instants import parse_instant
from seatd.flows import inquiries as inquiries_module
from seatd.flows.inquiries import Inquiries, Supposition
from seatd.flows.months import Months
from seatd.flows.price_lists import PriceLists
from seatd.model import Refusal, Tariff
from tests.flows.history_rows import write_history

EXAMPLES = Path(__file__).parent.parent / "billing" / "examples"
PRICES = (EXAMPLES / "prices.toml").read_text()
HISTORY = (EXAMPLES / "march.jsonl").read_bytes().splitlines()
LATER_MS = parse_instant("2026-05-02T00:00:00Z")


@pytest.fixture
async def inquiries(engine: AsyncEngine) -> Inquiries:
    await write_history(engine, [event for _, event in read_history(HISTORY, "march.jsonl")])
    lists = PriceLists(engine, lambda: LATER_MS)
    await lists.add(PRICES, actor="k_test")
    return Inquiries(engine, Months(engine, lists, clock=lambda: LATER_MS, waiting=lambda: 0))


@pytest.mark.parametrize("lot", [1, 50])
async def test_a_month_is_explained_by_the_one_before(
    inquiries: Inquiries, monkeypatch: pytest.MonkeyPatch, lot: int
) -> None:
    monkeypatch.setattr(inquiries_module, "TENANTS_A_LOT", lot)
    told = await inquiries.explained("2026-04", None)
    assert told.differs_from == "2026-03"
    assert {each.tenant: (str(each.to_date), str(each.before)) for each in told.tenants} == {
        "acme": ("1708.50", "2631.00"),
        "birch": ("98.00", "372.00"),
        "cedar": ("98.00", "144.19"),
    }
    for each in told.tenants:
        assert each.projected == each.to_date  # the month is over
        assert sum(d.difference for d in each.differences) == each.projected - each.before
    (cedar,) = (await inquiries.explained("2026-04", "cedar")).tenants
    assert [each.product for each in cedar.differences] == ["agent", "team"]


async def test_the_first_month_of_all_is_compared_with_none(inquiries: Inquiries) -> None:
    told = await inquiries.explained("2026-01", None)
    assert (told.differs_from, told.tenants) == (None, ())


async def test_advice_and_peak_are_one_tenants(inquiries: Inquiries) -> None:
    advice = await inquiries.advice("2026-03", "acme")
    assert (str(advice.as_it_is), str(advice.team), str(advice.agent)) == ("2340.00", "39.00", "147.00")
    assert [(each.seats, each.refused) for each in advice.numbers] == [(1, 0)]
    peak = await inquiries.peak("2026-03", "acme", named=False)
    assert (len(peak.witnesses), peak.names) == (1, {})
    assert peak.witnesses[0].user.startswith("p_")
    named = await inquiries.peak("2026-03", "acme", named=True)
    assert set(named.names) == {peak.witnesses[0].user}
    assert (await inquiries.peak("2026-03", "birch", named=False)).at_ms is None
    for asked in (inquiries.advice("2026-03", "nobody"), inquiries.explained("2026-03", "nobody")):
        with pytest.raises(Refusal) as refused:
            await asked
        assert refused.value.code == "not_found"


async def test_what_would_have_been(inquiries: Inquiries) -> None:
    async def supposed(supposition: Supposition, tenant: str | None = "acme") -> list[tuple[str, ...]]:
        lots = inquiries.what_if("2026-03", 2, tenant, supposition)
        return [
            (each.period, each.tenant, str(each.net), str(each.supposed_net), str(each.refused))
            async for lot in lots
            for each in lot
        ]

    assert await supposed(Supposition()) == [
        ("2026-03", "acme", "2631.00", "2631.00", "None"),
        ("2026-04", "acme", "1708.50", "1708.50", "None"),
    ]
    fewer = await supposed(Supposition(quantities={"team": 0}))
    assert [row[3:] for row in fewer] == [("291.00", "3"), ("148.50", "1")]
    dearer = PRICES.replace('version = "2026-example"', 'version = "dear"').replace('"39.00"', '"40.00"')
    assert [row[3] for row in await supposed(Supposition(price_list=dearer))] == ["2691.00", "1748.50"]
    agents = await supposed(Supposition(tariff=Tariff.AGENT), None)
    assert ("2026-03", "acme", "2631.00", "438.00", "None") in agents
    assert {row[1] for row in agents} == {"acme", "birch", "cedar"}
    teams = await supposed(Supposition(tariff=Tariff.TEAM))
    assert teams[0][3:] == ("330.00", "0")


@pytest.mark.parametrize(
    ("first", "count", "supposition", "code"),
    [
        ("2026-05", 2, Supposition(), "invalid_request"),  # June has not begun
        ("2025-12", 1, Supposition(), "no_price_list"),
        ("2026-13", 1, Supposition(), "invalid_request"),
        ("2026-03", 13, Supposition(), "invalid_request"),
        ("2026-03", 1, Supposition(price_list="version = 1"), "invalid_request"),
        ("2026-03", 1, Supposition(price_list=PRICES.replace("Berlin", "Paris")), "invalid_request"),
    ],
)
async def test_what_cannot_be_supposed_is_refused(
    inquiries: Inquiries, first: str, count: int, supposition: Supposition, code: str
) -> None:
    with pytest.raises(Refusal) as refused:
        async for _ in inquiries.what_if(first, count, None, supposition):
            pass
    assert refused.value.code == code
