"""Closing a month: what is refused, what is frozen, what stands afterwards, and what the evidence proves."""

import asyncio
import gzip
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts import audit
from seatd.accounts.service import Accounts
from seatd.billing import verify_bundle
from seatd.billing.historyfile import read_history
from seatd.billing.instants import parse_instant
from seatd.database.engine import reading, writing
from seatd.database.schema import meters, partitions, seq_gaps
from seatd.flows import making
from seatd.flows.aside import made_aside, rest_s
from seatd.flows.closed_months import ClosedMonths
from seatd.flows.closing import Closing, Waits
from seatd.flows.making import Attempt
from seatd.flows.months import Months
from seatd.flows.price_lists import PriceLists
from seatd.flows.signing import Signer
from seatd.model import Refusal
from seatd.seats.receipts import Keyring
from seatd.usage import chain
from seatd.usage.fold import Known
from seatd.usage.lost import end_lost
from seatd.usage.writing import Writer
from tests.flows.history_rows import write_history

EXAMPLES = Path(__file__).parent.parent / "billing" / "examples"
PRICES = (EXAMPLES / "prices.toml").read_text()
HISTORY = (EXAMPLES / "march.jsonl").read_bytes().splitlines()
LATER_MS = parse_instant("2026-06-01T00:00:00Z")
KEYS = Keyring.of("k", {"k": b"k" * 32})
WAITS = Waits(q_ms=500, delta_ms=2_000, w_ms=0)


async def _recorded() -> bool:
    return True


MakeClosing = Callable[..., Closing]


@pytest.fixture
def closing_of(engine: AsyncEngine) -> MakeClosing:
    def make(now_ms: int = LATER_MS, recorded: Callable[[], Awaitable[bool]] = _recorded) -> Closing:
        lists = PriceLists(engine, lambda: now_ms)
        months = Months(engine, lists, clock=lambda: now_ms, waiting=lambda: 0)
        return Closing(
            months,
            clock=lambda: now_ms,
            recorded=recorded,
            waiting=lambda: 7,
            signer=lambda: Signer(KEYS),
            waits=WAITS,
        )

    return make


@pytest.fixture
async def example(engine: AsyncEngine) -> None:
    await write_history(engine, [event for _, event in read_history(HISTORY, "march.jsonl")])
    await PriceLists(engine, lambda: LATER_MS).add(PRICES, actor="k_test")


@pytest.fixture
def closed(engine: AsyncEngine) -> ClosedMonths:
    return ClosedMonths(engine)


async def close(closing: Closing, period: str = "2026-03", accept_gap: str | None = None) -> Any:
    return (await closing.close(period, accept_gap=accept_gap, actor="k_test"))[0]


async def execute(engine: AsyncEngine, statement: str) -> None:
    async with writing(engine) as connection:
        await connection.execute(text(statement))


@pytest.mark.usefixtures("example")
async def test_the_worked_examples_close_to_the_byte(closing_of: MakeClosing, closed: ClosedMonths) -> None:
    march, april = await close(closing_of()), await close(closing_of(), "2026-04")
    assert await closed.read(march, "charges.csv") == (EXAMPLES / "march.charges.csv").read_bytes()
    assert await closed.read(march, "usage.csv") == (EXAMPLES / "march.usage.csv").read_bytes()
    assert await closed.read(april, "charges.csv") == (EXAMPLES / "april.charges.csv").read_bytes()
    assert (await closed.read(april, "corrections.csv")).count(b"\n") == 1


@pytest.mark.usefixtures("example")
async def test_a_closed_month_is_looked_at_by_the_list_that_it_was_closed_with(
    closing_of: MakeClosing, engine: AsyncEngine
) -> None:
    await close(closing_of())
    lists = PriceLists(engine, lambda: LATER_MS)
    newer = PRICES.replace('version = "2026-example"', 'version = "newer"').replace(
        "2026-01-01", "2026-02-01"
    )
    await lists.add(newer, actor="k_test")
    in_force = [(await lists.of_month(date(2026, month, 1))).version for month in (2, 3, 4)]
    assert in_force == ["newer", "2026-example", "newer"]


@pytest.mark.usefixtures("example")
async def test_closing_again_gives_the_same_bytes(closing_of: MakeClosing, closed: ClosedMonths) -> None:
    first, new = await closing_of().close("2026-03", accept_gap=None, actor="k_test")
    assert new
    again, new = await closing_of(LATER_MS + 1).close("2026-03", accept_gap=None, actor="k_other")
    assert (again, new) == (first, False)
    names = ["manifest.json", *first.signed["files"]]
    for name in names:
        raw = await closed.read(first, name)
        if name != "manifest.json":
            stated = {"bytes": len(raw), "sha256": verify_bundle.sha256(raw)}
            assert first.signed["files"][name] == stated
    assert await closed.bundle(first, "acme") == await closed.bundle(again, "acme")


@pytest.mark.usefixtures("example")
async def test_a_bundle_holds_offline_and_its_script_says_so(
    closing_of: MakeClosing, closed: ClosedMonths, tmp_path: Path
) -> None:
    month = await close(closing_of())
    for tenant in ("acme", "birch", "cedar"):
        path = tmp_path / f"{tenant}.tar.gz"
        path.write_bytes(await closed.bundle(month, tenant))
        found: list[str] = []
        files = verify_bundle.unpack(path.read_bytes(), found)
        assert [*found, *verify_bundle.check(files, month.kid)] == []
        script = tmp_path / "verify.py"
        script.write_bytes(files["verify.py"])
        command = [sys.executable, "-I", "-S", str(script), str(path), "--kid", month.kid]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b""), done.stdout
        assert b"all of it holds" in done.stdout
    with pytest.raises(Refusal, match="not_found"):
        await closed.bundle(month, "nobody")
    assert gzip.decompress(path.read_bytes())


@pytest.mark.usefixtures("example")
async def test_a_month_is_closed_once_nothing_of_it_can_still_come(closing_of: MakeClosing) -> None:
    """The longest ttl, Q, and learning: 300,000 + 500 + 303,000 + 2 * 2,000 + 0 + 500 ms after its end."""
    from_ms = parse_instant("2026-04-01T00:00:00+02:00") + 300_000 + 500 + 303_000 + 4_000 + 500
    with pytest.raises(Refusal, match="not_over") as refused:
        await close(closing_of(from_ms - 1))
    assert refused.value.fields == {"closes_from_ms": from_ms}
    await close(closing_of(from_ms))


@pytest.mark.usefixtures("example")
async def test_the_longest_ttl_of_any_tenant_counts(closing_of: MakeClosing, engine: AsyncEngine) -> None:
    await execute(engine, "UPDATE tenants SET longest_ttl_ms = 3600000 WHERE id = 'cedar'")
    from_ms = parse_instant("2026-04-01T00:00:00+02:00") + 3_600_000 + 500 + 3_636_000 + 4_000 + 500
    with pytest.raises(Refusal, match="not_over"):
        await close(closing_of(from_ms - 1))
    await close(closing_of(from_ms))


async def missing(closing: Closing, **options: Any) -> list[dict[str, Any]]:
    with pytest.raises(Refusal, match="usage_incomplete") as refused:
        await close(closing, **options)
    return list(refused.value.fields["missing"])


@pytest.mark.usefixtures("example")
async def test_a_month_waits_for_the_recorder(closing_of: MakeClosing) -> None:
    async def behind() -> bool:
        return False

    for reason in (None, "no matter"):
        assert await missing(closing_of(recorded=behind), accept_gap=reason) == [
            {"what": "recorder", "events": 7}
        ]
    await close(closing_of())


@pytest.mark.usefixtures("example")
async def test_a_gap_is_accepted_with_a_reason_that_is_audited(
    closing_of: MakeClosing, closed: ClosedMonths, engine: AsyncEngine
) -> None:
    gap = {"partition": 0, "epoch": 3, "from_seq": 7, "to_seq": 9}
    since_ms = parse_instant("2026-03-01T00:00:00+01:00")
    earlier = {**gap, "epoch": 2, "noticed_ms": since_ms - 1}
    async with writing(engine) as connection:
        await connection.execute(insert(seq_gaps), [gap | {"noticed_ms": since_ms}, earlier])
    assert await missing(closing_of()) == [{"what": "gap", **gap, "noticed_ms": since_ms}]
    for reason in ("", "a\nb", "x" * 501):
        with pytest.raises(Refusal, match="invalid_request"):
            await close(closing_of(), accept_gap=reason)
    month = await close(closing_of(), accept_gap="the disk of the 3rd of May")
    assert month.signed["accepted_gaps"] == [{**gap, "reason": "the disk of the 3rd of May"}]
    async with reading(engine) as connection:
        rows = await audit.listed(connection, tenant=None, after=0, limit=100)
        assert await audit.head(connection) == tuple(month.signed["audit"].values())[::-1]
    accepted, done = [row for row in rows if row.action.startswith("month.")]
    assert accepted.detail == {
        "reason": "the disk of the 3rd of May",
        "gaps": [[0, 3, 7, 9]],
        "gaps_count": 1,
    }
    assert done.detail["kid"] == month.kid
    await close(closing_of(), "2026-04")  # what was explained once is not asked again


@pytest.mark.usefixtures("example")
async def test_leases_lost_with_the_store_are_waited_for(
    closing_of: MakeClosing, engine: AsyncEngine
) -> None:
    """The lease a3 is open, and its store was lost at the end of the month."""
    lost_ms = parse_instant("2026-03-31T23:50:00+02:00")
    async with writing(engine) as connection:
        await connection.execute(insert(partitions), [{"partition": 0, "epoch": 2, "opened_ms": lost_ms}])
    assert await missing(closing_of()) == [{"what": "lost_leases", "partition": 0, "leases": 1}]
    async with writing(engine) as connection:
        assert await end_lost(connection, LATER_MS) == 1
    await close(closing_of())


LIKE_A3 = (
    "(tenant, lease, partition, person, tariff, started_ms, ended_ms, labels)"
    " SELECT tenant, {}, partition, person, tariff, {}, {}, labels FROM ledger_leases WHERE lease = 'a3'"
)
FROZEN = [
    "UPDATE ledger_leases SET ended_ms = 1772323300000 WHERE lease = 'a1'",
    "UPDATE ledger_leases SET person = 'p_x' WHERE lease = 'a3'",
    "UPDATE ledger_leases SET started_ms = started_ms - 1 WHERE lease = 'a3'",
    "UPDATE ledger_leases SET ended_ms = 1774994399999 WHERE lease = 'a3'",
    "UPDATE ledger_leases SET tariff = 'service' WHERE lease = 'c1'",
    "UPDATE ledger_leases SET started_ms = 1774994400000, ended_ms = NULL WHERE lease = 'a3'",
    "UPDATE ledger_leases SET tariff = 'service' WHERE lease = 'a3'",
    "UPDATE ledger_leases SET ended_ms = NULL WHERE lease = 'a1'",
    "UPDATE ledger_leases SET lease = 'a4' WHERE lease = 'a3'",
    "UPDATE ledger_leases SET tenant = 'birch' WHERE lease = 'a3'",
    "INSERT INTO ledger_leases " + LIKE_A3.format("'x1'", "started_ms", "NULL"),
    "INSERT INTO ledger_leases " + LIKE_A3.format("'x1'", "NULL", "1774994399999"),
    "INSERT INTO ledger_leases "
    + LIKE_A3.format("'a3'", "started_ms", "1774994399999")
    + " ON CONFLICT (tenant, lease) DO UPDATE SET ended_ms = excluded.ended_ms",
    "DELETE FROM ledger_leases WHERE lease = 'c1'",
    "UPDATE tariffs SET tariff = 'agent' WHERE tenant = 'acme'",
    "UPDATE tariffs SET cancelled_ms = 1 WHERE tenant = 'acme'",
    "DELETE FROM tariffs WHERE tenant = 'birch'",
    "UPDATE bookings SET quantity = 1 WHERE effective_ms < 1774994400000",
    "DELETE FROM bookings WHERE effective_ms < 1774994400000",
    "UPDATE bindings SET unbound_ms = 1774994399999 WHERE unbound_ms IS NULL AND bound_ms < 1774994399999",
    "UPDATE bindings SET unbound_ms = NULL WHERE unbound_ms IS NOT NULL",
    "DELETE FROM bindings WHERE bound_ms < 1774994400000",
    "UPDATE meters SET quantity = '1'",
    "DELETE FROM meters",
    "UPDATE denials SET at_ms = at_ms - 1",
    "DELETE FROM denials",
    "UPDATE price_lists SET toml = ''",
    "DELETE FROM price_lists",
    "UPDATE usage_chain SET hash = ''",
    "DELETE FROM usage_chain",
    "UPDATE months SET state = 'open'",
    "UPDATE months SET manifest = ''",
    "DELETE FROM months",
    "UPDATE month_parts SET tenant = 'x' WHERE part = 2",
    "DELETE FROM month_parts",
    "INSERT INTO month_parts SELECT token, 'x', 1, '', content FROM month_parts LIMIT 1",
    "INSERT INTO tariffs (tenant, tariff, trial, at_ms, decided_ms) VALUES ('acme', NULL, false, 1774994399999, 0)",
]


@pytest.mark.usefixtures("example")
async def test_what_was_billed_cannot_be_changed(closing_of: MakeClosing, engine: AsyncEngine) -> None:
    await close(closing_of())
    for statement in FROZEN:
        with pytest.raises(Refusal, match="closed month"):
            await execute(engine, statement)
    for allowed in (
        "UPDATE ledger_leases SET ended_ms = 1774994400000, end_reason = 'released' WHERE lease = 'a3'",
        "UPDATE ledger_leases SET ended_ms = NULL, end_reason = NULL WHERE lease = 'a3'",
        "INSERT INTO ledger_leases " + LIKE_A3.format("'x1'", "1774994400000", "NULL"),
        "INSERT INTO ledger_leases "
        + LIKE_A3.format("'a3'", "started_ms", "1774994400000")
        + " ON CONFLICT (tenant, lease) DO UPDATE SET ended_ms = excluded.ended_ms",
        "UPDATE bindings SET unbound_ms = 1774994400000 WHERE unbound_ms IS NULL AND bound_ms < 1774994400000",
        "UPDATE bookings SET quantity = 41 WHERE effective_ms >= 1774994400000",
        "INSERT INTO tariffs (tenant, tariff, trial, at_ms, decided_ms) VALUES ('acme', NULL, false, 1774994400000, 0)",
    ):
        await execute(engine, allowed)
    with pytest.raises(Refusal, match="closed month"):
        await execute(engine, "UPDATE ledger_leases SET started_ms = 1774994399999 WHERE lease = 'x1'")


async def tell(engine: AsyncEngine, tenant: str, lease: str, now: Known) -> None:
    """Write what is known of a lease, as the recorder does."""
    async with writing(engine) as connection:
        writer = await Writer.begin(connection, 0)
        known = await writer.known({(tenant, lease)})
        await writer.leases({(tenant, lease): now}, known)


PRICES_BY_USE = PRICES.replace('metric = "booked_peak"', 'metric = "seat_hours"')


@pytest.fixture
async def by_use(engine: AsyncEngine) -> None:
    await write_history(engine, [event for _, event in read_history(HISTORY, "march.jsonl")])
    await PriceLists(engine, lambda: LATER_MS).add(PRICES_BY_USE, actor="k_test")


async def corrections(closed: ClosedMonths, month: Any) -> list[str]:
    return (await closed.read(month, "corrections.csv")).decode().splitlines()[1:]


@pytest.mark.usefixtures("by_use")
async def test_what_is_known_late_is_corrected_in_the_next_month(
    closing_of: MakeClosing, closed: ClosedMonths, engine: AsyncEngine
) -> None:
    march = await close(closing_of())
    files = {name: await closed.read(march, name) for name in march.signed["files"]}
    hours = next(line for line in files["charges.csv"].decode().splitlines() if ",acme,team," in line)
    assert hours.endswith(",1,70.5,39.00,2749.50,19,EUR,2026-example")
    # a3 was open; now its end is known, at 04:30 of the 29th of March, before the month's end.
    person = "p_0000000000000002"
    started_ms = parse_instant("2026-03-29T04:00:00+02:00")
    ended = Known(person, "team", {}, started_ms, 1, started_ms + 1_800_000, 1, "released")
    await tell(engine, "acme", "a3", ended)
    await tell(engine, "acme", "a3", ended)  # told again, nothing changes
    # And a lease of March of which nobody knew.
    unknown = Known(person, "team", {}, started_ms, 1, started_ms + 3_600_000, 1, "released")
    await tell(engine, "birch", "b9", unknown)
    accounts = Accounts(engine, lambda: LATER_MS)
    at_ms = parse_instant("2026-03-20T09:00:00+01:00")
    await accounts.meter("birch", "support_basic", "1.5", "T-2", at_ms=at_ms, actor="k_test")
    april = await close(closing_of(), "2026-04")
    march_row = "2026-03-01T00:00:00+01:00,2026-04-01T00:00:00+02:00"
    assert await corrections(closed, april) == [
        f"2026-04,acme,team,seat_hours,{march_row},1,-70.5,39.00,-2749.50,19,EUR,2026-example,2026-03",
        f"2026-04,acme,team,seat_hours,{march_row},1,3,39.00,117.00,19,EUR,2026-example,2026-03",
        f"2026-04,birch,support_basic,metered,{march_row},1,-2.5,90.00,-225.00,19,EUR,2026-example,2026-03",
        f"2026-04,birch,support_basic,metered,{march_row},1,4,90.00,360.00,19,EUR,2026-example,2026-03",
    ]
    # What was closed stays as it was; April does not count what ended in March.
    assert {name: await closed.read(march, name) for name in march.signed["files"]} == files
    assert b",acme,team," not in await closed.read(april, "charges.csv")
    for tenant, month in (("acme", march), ("acme", april), ("birch", april)):
        found: list[str] = []
        bundle = verify_bundle.unpack(await closed.bundle(month, tenant), found)
        assert [*found, *verify_bundle.check(bundle)] == []
    files = verify_bundle.unpack(await closed.bundle(april, "birch"), [])
    forged = files["corrections.csv"].replace(b",4,90.00,360.00,", b",4,90.00,361.00,")
    assert forged != files["corrections.csv"]
    told = list(verify_bundle.check(files | {"corrections.csv": forged}))
    assert "corrections.csv: support_basic of 2026-03 is not what late.jsonl gives" in told
    # Later still: a correction is held against what was billed by now.
    await accounts.meter("birch", "support_basic", "1", "T-3", at_ms=at_ms, actor="k_test")
    may = await close(closing_of(parse_instant("2026-07-01T00:00:00Z")), "2026-05")
    assert await corrections(closed, may) == [
        f"2026-05,birch,support_basic,metered,{march_row},1,-4,90.00,-360.00,19,EUR,2026-example,2026-03",
        f"2026-05,birch,support_basic,metered,{march_row},1,5,90.00,450.00,19,EUR,2026-example,2026-03",
    ]


@pytest.mark.usefixtures("by_use")
async def test_a_lease_open_at_the_boundary_goes_on(
    closing_of: MakeClosing, closed: ClosedMonths, engine: AsyncEngine
) -> None:
    march = await close(closing_of())
    before = await closed.bundle(march, "acme")
    april_ms = parse_instant("2026-04-01T00:00:00+02:00")
    known = Known("p_0000000000000002", "team", {}, parse_instant("2026-03-29T04:00:00+02:00"), 1)
    ended = known._replace(ended_ms=april_ms + 7_200_000, end_epoch=1, end_reason="released")
    await tell(engine, "acme", "a3", ended)
    april = await close(closing_of(), "2026-04")
    charges = (await closed.read(april, "charges.csv")).decode()
    assert ",1,2,39.00,78.00,19,EUR," in next(row for row in charges.splitlines() if ",acme,team," in row)
    assert await corrections(closed, april) == []
    assert await closed.bundle(march, "acme") == before
    async with reading(engine) as connection:
        assert (await connection.execute(text("SELECT count(*) FROM late_leases"))).scalar() == 0


@pytest.mark.usefixtures("example")
async def test_a_changed_row_of_the_chain_stops_the_close(
    closing_of: MakeClosing, engine: AsyncEngine
) -> None:
    if engine.dialect.name == "sqlite":
        await execute(engine, "DROP TRIGGER frozen_usage_chain_update")
    else:
        await execute(engine, "DROP TRIGGER frozen_usage_chain_update ON usage_chain")
    await execute(
        engine, "UPDATE usage_chain SET \"row\" = replace(\"row\", 'a2', 'a7') WHERE \"row\" LIKE '%a2%'"
    )
    (found,) = await missing(closing_of())
    assert found == {"what": "chain", "partition": 0, "pos": 2}
    preview = await Months(
        engine, PriceLists(engine, lambda: LATER_MS), clock=lambda: LATER_MS, waiting=lambda: 0
    ).preview("2026-03")
    assert len(preview.tenants) == 3  # the month is open, and not frozen
    await execute(engine, "UPDATE ledger_leases SET end_reason = 'expired' WHERE lease = 'a1'")
    month = await close(closing_of(), accept_gap="restored by hand")
    assert month.signed["chain_breaks"] == [{**found, "reason": "restored by hand"}]
    assert (await close(closing_of(), "2026-04")).signed["chain_breaks"] == []


@pytest.mark.usefixtures("example")
async def test_a_closing_that_died_is_taken_over(
    closing_of: MakeClosing, closed: ClosedMonths, engine: AsyncEngine
) -> None:
    at_ms = parse_instant("2026-03-01T00:00:00+01:00")
    values = f"'2026-03', 'closing', 'c_dead', {at_ms}, {at_ms + 2_674_800_000}, 'Europe/Berlin', '2026-example', 1"
    columns = "period, state, token, start_ms, end_ms, timezone, price_list, began_ms"
    await execute(engine, f"INSERT INTO months ({columns}) VALUES ({values})")
    await execute(
        engine,
        "INSERT INTO month_parts (token, name, part, tenant, content) VALUES ('c_dead', 'x', 1, '', '')",
    )
    assert await closed.find("2026-03") is None
    accounts = Accounts(engine, lambda: LATER_MS)  # a fact that came meanwhile
    await accounts.meter("birch", "support_basic", "1", "T-2", at_ms=at_ms, actor="k")
    month = await close(closing_of())
    assert b",birch,support_basic,metered," in await closed.read(month, "charges.csv")
    assert b",1,3.5,90.00,315.00," in await closed.read(month, "charges.csv")
    assert await corrections(closed, await close(closing_of(), "2026-04")) == []
    async with reading(engine) as connection:
        query = text("SELECT count(*) FROM month_parts WHERE token = 'c_dead'")
        assert (await connection.execute(query)).scalar() == 0


@pytest.mark.usefixtures("example")
async def test_several_close_at_once(closing_of: MakeClosing, closed: ClosedMonths) -> None:
    closings = [closing_of(), closing_of(), closing_of()]
    done = await asyncio.gather(
        *(each.close("2026-03", accept_gap=None, actor="k") for each in closings), return_exceptions=True
    )
    for each in done:
        assert isinstance(each, tuple) or (isinstance(each, Refusal) and each.code in ("conflict", "busy")), (
            each
        )
    month = await close(closing_of())
    assert {each[0] for each in done if isinstance(each, tuple)} <= {month}
    assert await closed.read(month, "charges.csv") == (EXAMPLES / "march.charges.csv").read_bytes()


@pytest.mark.usefixtures("by_use")
@pytest.mark.parametrize("kind", ["meter", "lease"])
async def test_a_fact_in_flight_is_waited_for(
    closing_of: MakeClosing, closed: ClosedMonths, engine: AsyncEngine, kind: str
) -> None:
    """A close that looked meanwhile would bill the month without it, and nobody would note that it came late."""
    start_ms = parse_instant("2026-03-20T09:00:00+01:00")
    async with writing(engine) as connection:
        if kind == "meter":
            row = {"tenant": "birch", "product": "support_basic", "id": "T-9", "quantity": "1.5"}
            await connection.execute(insert(meters), [row | {"at_ms": start_ms}])
        else:
            writer = await Writer.begin(connection, 0)
            told = Known("p_0", "team", {}, start_ms, 1, start_ms + 3_600_000, 1, "released")
            await writer.leases({("acme", "a9"): told}, {})
        closing = asyncio.create_task(close(closing_of()))
        await asyncio.sleep(1.5)
        assert not closing.done()
    charges = await closed.read(await closing, "charges.csv")
    assert (b",1,4,90.00,360.00," if kind == "meter" else b",1,71.5,39.00,2788.50,") in charges
    async with reading(engine) as connection:
        assert (await connection.execute(text("SELECT count(*) FROM late_facts"))).scalar() == 0


@pytest.mark.usefixtures("example")
async def test_whoever_makes_files_rests_between_tenants_and_not_at_the_end(
    closing_of: MakeClosing, closed: ClosedMonths, monkeypatch: pytest.MonkeyPatch
) -> None:
    rested: list[float] = []

    def rest(took_s: float, waited: float) -> float:
        assert took_s > 0
        assert waited > -1
        rested.append(0.1)
        return rested[-1]

    monkeypatch.setattr(making, "TENANTS_A_LOT", 1)
    monkeypatch.setattr(chain, "_PAGE", 2)
    closing = closing_of()
    closing._make = partial(making.make_files, rest=rest)
    began_s = time.monotonic()
    march = await close(closing)
    assert len(rested) > 4  # in the chain, and between tenants
    assert time.monotonic() - began_s > 0.1 * (len(rested) - 1)
    assert await closed.read(march, "charges.csv") == (EXAMPLES / "march.charges.csv").read_bytes()


def test_rest_is_for_those_who_share_a_processor() -> None:
    assert rest_s(0.1, 0.05) == 0.0
    assert rest_s(0.1, 0.5) == pytest.approx(2.4)
    assert rest_s(2.0, 0.5) == 10.0


@pytest.mark.usefixtures("example")
async def test_files_are_made_aside_as_they_are_here(
    closing_of: MakeClosing, closed: ClosedMonths, engine: AsyncEngine
) -> None:
    closing = closing_of()
    closing._make = made_aside
    march = await close(closing)
    april = await close(closing_of(), "2026-04")
    for month, name in ((march, "march"), (april, "april")):
        assert await closed.read(month, "charges.csv") == (EXAMPLES / f"{name}.charges.csv").read_bytes()
        assert verify_bundle.unpack(await closed.bundle(month, "acme"), [])["verify.py"]
    months = Months(engine, PriceLists(engine, lambda: LATER_MS), clock=lambda: LATER_MS, waiting=lambda: 0)
    with pytest.raises(Refusal, match="conflict: 2026-05 is being closed by another"):
        await made_aside(
            engine, Attempt(await months.open("2026-05"), "c_of_nobody", {}, accepts_breaks=False)
        )
