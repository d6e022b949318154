"""A month rated from SQL is the month rated from the same facts in a file, at whatever instant one looks."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.billing.events import SeatEnded
from seatd.billing.export import charges_file, usage_file
from seatd.billing.history import History
from seatd.billing.historyfile import read_history
from seatd.billing.months import Month
from seatd.billing.rating import rate
from seatd.billing.report import usage
from seatd.billing.totals import totals
from seatd.catalogue.pricelist_toml import parse_price_list
from seatd.database.engine import make_engine
from seatd.flows.months import Months
from seatd.flows.price_lists import PriceLists
from tests.billing.histories import DAY, histories, jsonl, price_lists, toml
from tests.flows.history_rows import wipe, write_history

PERIOD, ZONE = "2026-03", "Europe/Berlin"
MONTH = Month.parse(PERIOD, ZONE)


@pytest.fixture
def runner(database_url: str) -> Iterator[tuple[asyncio.Runner, AsyncEngine]]:
    with asyncio.Runner() as made:
        engine = make_engine(database_url)
        yield made, engine
        made.run(engine.dispose())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    histories(PERIOD, ZONE),
    price_lists(ZONE),
    st.sampled_from([MONTH.start_ms - DAY, MONTH.start_ms, MONTH.end_ms, MONTH.end_ms + 40 * DAY])
    | st.integers(MONTH.start_ms, MONTH.end_ms),
)
def test_sql_gives_what_the_file_gives(
    runner: tuple[asyncio.Runner, AsyncEngine], lines: list[Any], prices: dict[str, Any], now_ms: int
) -> None:
    loop, engine = runner
    loop.run(compare(engine, lines, toml(prices), now_ms))


async def compare(engine: AsyncEngine, lines: list[Any], prices: str, now_ms: int) -> None:
    told = [event for _, event in read_history(jsonl(lines), "h")]
    # The ledger knows of no end that is still to come, so that none before the month may keep a lease out of it.
    events = [
        each for each in told if not (isinstance(each, SeatEnded) and now_ms < each.at_ms <= MONTH.start_ms)
    ]
    await wipe(engine)
    await write_history(engine, events)
    lists = PriceLists(engine, lambda: now_ms)
    await lists.add(prices, actor="k_test")
    months = Months(engine, lists, clock=lambda: now_ms, waiting=lambda: 0)
    opened = await months.open(PERIOD)
    price_list = parse_price_list(prices)
    facts = list(History(events).all_facts())
    charges = [charge for each in facts for charge in rate(each, price_list, MONTH, now_ms)]
    used = [line for each in facts if (line := usage(each, MONTH, now_ms))]
    for file_format in ("csv", "jsonl"):
        assert await whole(months.exported(opened, "charges", file_format)) == list(
            charges_file(charges, file_format)
        )
        assert await whole(months.exported(opened, "usage", file_format)) == list(
            usage_file(used, file_format)
        )
    preview = await months.preview(PERIOD)
    assert [each for each in preview.tenants if each.by_rate] == totals(charges)
    assert {each.tenant for each in preview.tenants} == {c.tenant for c in charges} | {u.tenant for u in used}
    assert preview.questions == ()


async def whole(chunks: Any) -> list[bytes]:
    raw = b"".join([chunk async for chunk in chunks])
    return raw.splitlines(keepends=True)
