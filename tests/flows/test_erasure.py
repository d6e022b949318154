"""Names that are forgotten after a time: whose, and that nothing else changes."""

from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts import audit
from seatd.accounts.service import Accounts
from seatd.billing import verify_bundle
from seatd.billing.historyfile import read_history
from seatd.billing.instants import parse_instant
from seatd.database.engine import reading, writing
from seatd.database.schema import people
from seatd.flows.closed_months import ClosedMonths
from seatd.flows.closing import Closing, Waits
from seatd.flows.erasure import DAY_MS, forget_idle
from seatd.flows.months import Months
from seatd.flows.price_lists import PriceLists
from seatd.flows.signing import Signer
from seatd.seats.receipts import Keyring
from seatd.usage.fold import Known
from seatd.usage.writing import Writer
from tests.flows.history_rows import write_history

EXAMPLES = Path(__file__).parent.parent / "billing" / "examples"
HISTORY = (EXAMPLES / "march.jsonl").read_bytes().splitlines()
LATER_MS = parse_instant("2026-06-01T00:00:00Z")


async def names(engine: AsyncEngine) -> set[str]:
    async with reading(engine) as connection:
        query = select(people.c.name).where(people.c.name.is_not(None))
        return set((await connection.execute(query)).scalars())


@pytest.fixture
async def example(engine: AsyncEngine) -> None:
    await write_history(engine, [event for _, event in read_history(HISTORY, "march.jsonl")])
    await PriceLists(engine, lambda: LATER_MS).add((EXAMPLES / "prices.toml").read_text(), actor="k")


@pytest.mark.usefixtures("example")
async def test_only_who_was_not_seen_for_so_long_is_forgotten(engine: AsyncEngine) -> None:
    """dan was refused a seat on the 31st of March, finn's binding ended on the 20th; all others are named or sit."""
    everybody = {"ana", "bo", "cy", "dan", "eva", "finn", "gus", "hal", "ida"}
    refused_ms = parse_instant("2026-03-31T23:00:00+02:00")
    unbound_ms = parse_instant("2026-03-20T08:00:00+01:00")
    assert await forget_idle(engine, unbound_ms + 30 * DAY_MS, 30) == 0
    assert await names(engine) == everybody
    assert await forget_idle(engine, unbound_ms + 30 * DAY_MS + 1, 30) == 1
    assert await names(engine) == everybody - {"finn"}
    assert await forget_idle(engine, refused_ms + 30 * DAY_MS + 1, 30) == 1
    assert await names(engine) == everybody - {"finn", "dan"}
    assert await forget_idle(engine, LATER_MS + 9_999 * DAY_MS, 1) == 0
    async with reading(engine) as connection:
        rows = await audit.listed(connection, tenant=None, after=0, limit=99)
    told = [(row.tenant, row.detail["people"]) for row in rows if row.action == "people.forget"]
    assert told == [("birch", 1), ("acme", 1)]


@pytest.mark.usefixtures("example")
async def test_sums_chain_and_proofs_stay_and_who_comes_back_is_new(engine: AsyncEngine) -> None:
    months = Months(engine, PriceLists(engine, lambda: LATER_MS), clock=lambda: LATER_MS, waiting=lambda: 0)

    async def recorded() -> bool:
        return True

    closing = Closing(
        months,
        clock=lambda: LATER_MS,
        recorded=recorded,
        waiting=lambda: 0,
        signer=lambda: Signer(Keyring.of("k", {"k": b"k" * 32})),
        waits=Waits(500, 2_000, 0),
    )
    closed = ClosedMonths(engine)
    march, _ = await closing.close("2026-03", accept_gap=None, actor="k")
    before = [await closed.bundle(march, tenant) for tenant in ("acme", "birch", "cedar")]
    april = (await months.preview("2026-04")).net
    assert await forget_idle(engine, LATER_MS, 1) == 2
    assert [await closed.bundle(march, tenant) for tenant in ("acme", "birch", "cedar")] == before
    assert list(verify_bundle.check(verify_bundle.unpack(before[0], []))) == []
    assert (await months.preview("2026-04")).net == april
    accounts = Accounts(engine, lambda: LATER_MS)
    await accounts.bind("birch", "social", "finn", actor="k")
    assert "finn" in await names(engine)
    async with writing(engine) as connection:
        writer = await Writer.begin(connection, 0)
        await writer.leases({("birch", "l"): Known("p_old", "team", {}, LATER_MS, 1)}, {})
    april_closed, _ = await closing.close("2026-04", accept_gap=None, actor="k")
    assert april_closed.signed["chain_breaks"] == []
