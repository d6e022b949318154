"""A month in others' forms: leases as lines, Parquet of what a CSV says, a closed month as bookings."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.billing.historyfile import read_history
from seatd.billing.instants import parse_instant
from seatd.flows import month_exports
from seatd.flows.closed_months import ClosedMonths
from seatd.flows.closing import Closing, Waits
from seatd.flows.month_exports import Bookings, as_parquet, intervals
from seatd.flows.months import Months
from seatd.flows.price_lists import PriceLists
from seatd.flows.signing import Signer
from seatd.model import Refusal
from seatd.seats.receipts import Keyring
from tests.flows.history_rows import write_history

EXAMPLES = Path(__file__).parent.parent / "billing" / "examples"
PRICES = (EXAMPLES / "prices.toml").read_text()
HISTORY = (EXAMPLES / "march.jsonl").read_bytes().splitlines()
LATER_MS = parse_instant("2026-06-01T00:00:00Z")
MAPPING = 'consultant = 29098\nclient = 55003\ndebtor = "10000"\n[rates]\n19 = { account = "8400" }\n'


@pytest.fixture
async def months(engine: AsyncEngine) -> Months:
    await write_history(engine, [event for _, event in read_history(HISTORY, "march.jsonl")])
    lists = PriceLists(engine, lambda: LATER_MS)
    await lists.add(PRICES, actor="k_test")
    return Months(engine, lists, clock=lambda: LATER_MS, waiting=lambda: 0)


async def whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def closed_march(months: Months) -> Any:
    async def recorded() -> bool:
        return True

    closing = Closing(
        months,
        clock=lambda: LATER_MS,
        recorded=recorded,
        waiting=lambda: 0,
        signer=lambda: Signer(Keyring.of("k", {"k": b"k" * 32})),
        waits=Waits(q_ms=500, delta_ms=2_000, w_ms=0),
    )
    return (await closing.close("2026-03", accept_gap=None, actor="k_test"))[0]


@pytest.mark.parametrize("lot", [1, 50])
async def test_leases_of_an_open_month_are_those_of_the_closed_one(
    months: Months, monkeypatch: pytest.MonkeyPatch, lot: int
) -> None:
    monkeypatch.setattr(month_exports, "TENANTS_A_LOT", lot)
    opened = await months.open("2026-03")
    lines = {form: await whole(intervals(months, opened, form)) for form in ("csv", "jsonl")}
    assert lines["csv"].startswith(b"tenant,lease,user,tariff,started,ended,end_reason\nacme,")
    assert lines["csv"].count(b"\n") == lines["jsonl"].count(b"\n") + 1 > 2
    march, closed = await closed_march(months), ClosedMonths(months.engine)
    for form, raw in lines.items():
        assert await closed.read(march, f"intervals.{form}") == raw


async def test_parquet_says_what_the_csv_says(months: Months, tmp_path: Path) -> None:
    opened = await months.open("2026-03")
    target = tmp_path / "x.parquet"
    target.write_bytes(await whole(as_parquet(months.exported(opened, "charges", "csv"))))
    with duckdb.connect() as connection:
        found = connection.execute("SELECT count(*), sum(net) FROM read_parquet(?)", [str(target)]).fetchall()
    charges = (EXAMPLES / "march.charges.csv").read_text().splitlines()
    assert (found[0][0], str(found[0][1])) == (len(charges) - 1, "3147.19")


async def test_what_fails_while_parquet_is_made_leaves_nothing(
    months: Months, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def broken() -> AsyncIterator[bytes]:
        yield b"period,tenant\n"
        raise Refusal("database_unavailable")

    with pytest.raises(Refusal, match="database_unavailable"):
        await whole(as_parquet(broken()))
    assert not list(tmp_path.glob("seatd-*"))


async def test_a_closed_month_is_booked_and_the_bookings_add_up(months: Months, tmp_path: Path) -> None:
    mapping = tmp_path / "accounts.toml"
    mapping.write_text(MAPPING)
    march = await closed_march(months)
    raw = await Bookings(ClosedMonths(months.engine), mapping).batch(march)
    assert raw == await Bookings(ClosedMonths(months.engine), mapping).batch(march)
    _, _, *rows = raw.decode("cp1252").splitlines()
    assert [row.split(";")[0] for row in rows] == ["3130,89", "442,68", "171,59"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "SEATD_DATEV_ACCOUNTS"),
        ("client = 1", "consultant"),
        (MAPPING.replace('debtor = "10000"\n', ""), "customer acme"),
        (MAPPING.replace("19 =", "7 ="), "VAT 19 %"),
    ],
)
async def test_no_booking_is_guessed(months: Months, tmp_path: Path, text: str | None, why: str) -> None:
    mapping = tmp_path / "accounts.toml"
    if text is not None:
        mapping.write_text(text)
    bookings = Bookings(ClosedMonths(months.engine), mapping if text is not None else None)
    with pytest.raises(Refusal) as refused:
        await bookings.batch(await closed_march(months))
    assert refused.value.code == "conflict"
    assert why in (refused.value.detail or "")
