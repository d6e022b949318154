"""Open months: the worked examples from rows, questions asked, price lists taken in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts import audit
from seatd.accounts.service import Accounts
from seatd.billing.export import Format
from seatd.billing.historyfile import read_history
from seatd.billing.instants import parse_instant
from seatd.database.engine import reading, writing
from seatd.database.schema import ledger_leases, outbox, seq_gaps
from seatd.flows import months as months_module
from seatd.flows.months import Months, What
from seatd.flows.price_lists import PriceLists
from seatd.model import Refusal, Tariff
from tests.flows.history_rows import write_history

EXAMPLES = Path(__file__).parent.parent / "billing" / "examples"
PRICES = (EXAMPLES / "prices.toml").read_text()
HISTORY = (EXAMPLES / "march.jsonl").read_bytes().splitlines()
LATER_MS = parse_instant("2026-06-01T00:00:00Z")
MakeMonths = Callable[..., Months]


@pytest.fixture
def months_of(engine: AsyncEngine) -> MakeMonths:
    def make(now_ms: int = LATER_MS, waiting: int | None = 0) -> Months:
        lists = PriceLists(engine, lambda: now_ms)
        return Months(engine, lists, clock=lambda: now_ms, waiting=lambda: waiting)

    return make


@pytest.fixture
async def example(engine: AsyncEngine) -> None:
    await write_history(engine, [event for _, event in read_history(HISTORY, "march.jsonl")])
    await PriceLists(engine, lambda: LATER_MS).add(PRICES, actor="k_test")


async def exported(months: Months, period: str, what: What, file_format: Format) -> bytes:
    return b"".join([chunk async for chunk in months.exported(await months.open(period), what, file_format)])


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize("lot", [1, 2, 50])
async def test_the_worked_examples_come_out_of_sql_to_the_byte(
    months_of: MakeMonths, monkeypatch: pytest.MonkeyPatch, lot: int
) -> None:
    monkeypatch.setattr(months_module, "TENANTS_A_LOT", lot)
    months = months_of()
    for period, what, name in [
        ("2026-03", "charges", "march.charges.csv"),
        ("2026-03", "usage", "march.usage.csv"),
        ("2026-04", "charges", "april.charges.csv"),
    ]:
        assert await exported(months, period, what, "csv") == (EXAMPLES / name).read_bytes()  # type: ignore[arg-type]  # one of two


@pytest.mark.usefixtures("example")
async def test_a_preview_adds_up_what_the_lines_say(months_of: MakeMonths) -> None:
    preview = await months_of().preview("2026-03")
    assert [(each.tenant, str(each.net), str(each.vat), str(each.gross)) for each in preview.tenants] == [
        ("acme", "2631.00", "499.89", "3130.89"),
        ("birch", "372.00", "70.68", "442.68"),
        ("cedar", "144.19", "27.40", "171.59"),
    ]
    assert (str(preview.net), str(preview.vat), str(preview.gross)) == ("3147.19", "597.97", "3745.16")
    assert (preview.gaps, preview.questions) == ((), ())


@pytest.mark.usefixtures("example")
async def test_an_open_month_is_rated_as_if_nothing_changed_and_hours_up_to_now(
    months_of: MakeMonths,
) -> None:
    """On the 11th the 60 seats of the 12th are not yet decided; the 50 that stand hold to the end."""
    now_ms = parse_instant("2026-03-11T12:00:00+01:00")
    preview = await months_of(now_ms).preview("2026-03")
    charges = await exported(months_of(now_ms), "2026-03", "charges", "csv")
    assert (
        b"acme,team,booked_peak,2026-03-01T00:00:00+01:00,2026-04-01T00:00:00+02:00,1,50,39.00,1950.00"
        in charges
    )
    assert b"cedar,team,booked_peak,2026-03-11T00:00:00+01:00,2026-04-01T00:00:00+02:00,1,5," in charges
    usage = await exported(months_of(now_ms), "2026-03", "usage", "jsonl")
    assert b'"tenant": "acme", "used_peak": "1"' in usage
    assert b'"seat_hours": "0.5"' in usage
    assert preview.opened.until_ms == now_ms


async def test_no_price_list_is_said_so(months_of: MakeMonths, engine: AsyncEngine) -> None:
    with pytest.raises(Refusal, match="no_price_list"):
        await months_of().preview("2026-03")
    await PriceLists(engine, lambda: LATER_MS).add(PRICES, actor="k_test")
    with pytest.raises(Refusal, match="no_price_list"):
        await months_of().preview("2025-12")
    with pytest.raises(Refusal, match="invalid_request"):
        await months_of().preview("2026-13")
    empty = await months_of().preview("2026-01")
    assert (empty.tenants, empty.questions, str(empty.net)) == ((), (), "0")


@pytest.mark.usefixtures("example")
async def test_what_is_open_about_a_month_is_asked(months_of: MakeMonths, engine: AsyncEngine) -> None:
    accounts = Accounts(engine, lambda: LATER_MS)
    await accounts.put_tenant("acme", {}, actor="k_test")
    await accounts.bind("acme", "chatbot", "ana", actor="k_test")
    await accounts.bind("acme", "service", "bo", actor="k_test")
    june_ms = parse_instant("2026-06-02T00:00:00+02:00")
    async with writing(engine) as connection:
        gap = {"partition": 0, "epoch": 3, "from_seq": 7, "to_seq": 9}
        await connection.execute(insert(seq_gaps), [gap | {"noticed_ms": june_ms}])
        await connection.execute(
            insert(seq_gaps), [gap | {"partition": 1, "noticed_ms": parse_instant("2026-03-02T00:00:00Z")}]
        )
        lost = {"tenant": "birch", "lease": "x", "partition": 0, "person": "p", "tariff": "", "labels": {}}
        await connection.execute(
            insert(ledger_leases), [lost | {"ended_ms": june_ms, "end_reason": "released"}]
        )
    preview = await months_of(june_ms + 1, waiting=12).preview("2026-06")
    assert [(each.code, dict(each.fields)) for each in preview.questions] == [
        ("unknown_product", {"product": "chatbot", "tenants": ["acme"], "tenants_count": 1}),
        ("usage_gaps", {"gaps": 1, "events": 3}),
        ("lease_start_lost", {"tenant": "birch", "leases": 1}),
        ("usage_backlog", {"events": 12}),
    ]
    assert [(gap.partition, gap.from_seq, gap.to_seq) for gap in preview.gaps] == [(0, 7, 9)]
    unknown = await months_of(june_ms + 1, waiting=None).preview("2026-04")
    assert [each.code for each in unknown.questions] == ["usage_gaps", "usage_backlog"]


async def test_a_price_list_is_kept_once_and_audited(engine: AsyncEngine) -> None:
    lists = PriceLists(engine, lambda: LATER_MS)
    first = await lists.add(PRICES, actor="k_boss")
    assert (first.created, first.price_list.version) == (True, "2026-example")
    assert not (await lists.add(PRICES, actor="k_boss")).created
    for other in (PRICES + "# a word\n", PRICES.replace("39.00", "38.00")):
        with pytest.raises(Refusal, match="conflict"):
            await lists.add(other, actor="k_boss")
    with pytest.raises(Refusal, match="conflict: Price list 2026-example is valid"):
        await lists.add(PRICES.replace("2026-example", "2026-other"), actor="k_boss")
    with pytest.raises(Refusal) as refused:
        await lists.add(PRICES.replace('"39.00"', "39.00"), actor="k_boss")
    assert refused.value.fields["errors"][0]["field"] == "products.team.unit_price"
    assert refused.value.fields["errors"][0]["reason"].startswith("line 1")
    (kept,) = await lists.listed()
    assert (kept.toml, kept.valid_from, kept.added_ms) == (PRICES, "2026-01-01", LATER_MS)
    async with reading(engine) as connection:
        (row,) = await audit.listed(connection, tenant=None, after=0, limit=10)
    assert (row.action, row.actor, row.detail["digest"]) == ("price_list.add", "k_boss", kept.digest)


async def test_policies_follow_a_list_that_sells_other_products_to_whole_tenants(engine: AsyncEngine) -> None:
    lists = PriceLists(engine, lambda: LATER_MS)
    await Accounts(engine, lambda: LATER_MS).put_tenant(
        "acme", {"name": "Acme", "tariff": Tariff.TEAM}, actor="k"
    )
    assert await lists.tenant_scoped() == frozenset()
    assert await lists.zone_of(LATER_MS) == "Europe/Berlin"
    await lists.add(PRICES, actor="k")
    assert "ocr" in await lists.tenant_scoped()
    newer = PRICES.replace("2026-example", "v2").replace("2026-01-01", "2026-06-15")
    await lists.add(newer.replace("Europe/Berlin", "Asia/Tokyo"), actor="k")
    third = PRICES.replace("2026-example", "v3").replace("2026-01-01", "2026-08-02")
    await lists.add(
        third.replace(
            '[products.ocr]\nname = "OCR module"\nscope = "tenant"', '[products.ocr]\nname = "OCR"'
        ),
        actor="k",
    )
    assert await due(engine) == [LATER_MS, parse_instant("2026-09-01T00:00:00+02:00")]
    assert await lists.zone_of(parse_instant("2026-06-30T14:59:59.999Z")) == "Europe/Berlin"
    assert await lists.zone_of(parse_instant("2026-06-30T15:00:00Z")) == "Asia/Tokyo"


async def due(engine: AsyncEngine) -> list[Any]:
    async with reading(engine) as connection:
        query = select(outbox.c.due_ms).where(outbox.c.scheduled).order_by(outbox.c.due_ms)
        return list((await connection.execute(query)).scalars())
