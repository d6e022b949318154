"""Months that are archived: what leaves, what stays as it was, what can still be verified, and what death in between leaves."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts import audit
from seatd.accounts.service import Accounts
from seatd.billing.archive import CHAIN, LEASES, MANIFEST, is_archive, verify_archive
from seatd.billing.historyfile import read_history
from seatd.billing.instants import parse_instant
from seatd.database.engine import reading, writing
from seatd.database.schema import late_facts, late_leases, ledger_leases, usage_chain
from seatd.flows import retention
from seatd.flows.closed_months import ClosedMonths
from seatd.flows.closing import Closing, Waits
from seatd.flows.months import Months
from seatd.flows.price_lists import PriceLists
from seatd.flows.retention import Archived, Archiving
from seatd.flows.signing import Signer
from seatd.model import Refusal
from seatd.seats.receipts import Keyring
from seatd.usage.fold import Known
from seatd.usage.writing import Writer
from tests.flows.history_rows import write_history

EXAMPLES = Path(__file__).parent.parent / "billing" / "examples"
HISTORY = (EXAMPLES / "march.jsonl").read_bytes().splitlines()
LATER_MS = parse_instant("2026-07-01T00:00:00Z")
SIGNER = Signer(Keyring.of("k", {"k": b"k" * 32}))
MARCH_END_MS = parse_instant("2026-04-01T00:00:00+02:00")


async def recorded() -> bool:
    return True


class House:
    """A deployment whose months are closed and archived."""

    def __init__(self, engine: AsyncEngine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        lists = PriceLists(engine, lambda: LATER_MS)
        self.months = Months(engine, lists, clock=lambda: LATER_MS, waiting=lambda: 0)
        self.closing = Closing(
            self.months,
            clock=lambda: LATER_MS,
            recorded=recorded,
            waiting=lambda: 0,
            signer=lambda: SIGNER,
            waits=Waits(500, 2_000, 0),
        )
        self.closed = ClosedMonths(engine)
        self.archiving = Archiving(engine, folder, clock=lambda: LATER_MS, signer=lambda: SIGNER)

    async def close(self, period: str) -> None:
        await self.closing.close(period, accept_gap=None, actor="k")

    async def archive(self, period: str = "2026-03") -> Archived:
        return await self.archiving.archive(period, actor="k")

    async def count(self, table: Any) -> int:
        async with reading(self.engine) as connection:
            return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())

    async def leases(self) -> dict[str, int | None]:
        async with reading(self.engine) as connection:
            rows = await connection.execute(select(ledger_leases.c.lease, ledger_leases.c.ended_ms))
            return {lease: ended_ms for lease, ended_ms in rows}  # noqa: C416 - rows are no pairs to mypy

    async def files(self) -> list[bytes]:
        """All that anybody can have of the closed month of March."""
        march = await self.closed.find("2026-03")
        assert march is not None
        names = [*march.signed["files"], "manifest.json"]
        files = [await self.closed.read(march, name) for name in names]
        return files + [await self.closed.bundle(march, tenant) for tenant in ("acme", "birch", "cedar")]


@pytest.fixture
async def house(engine: AsyncEngine, tmp_path: Path) -> House:
    early_ms = parse_instant("2026-03-02T08:00:00+01:00")
    async with writing(engine) as connection:  # first in the chain, so that it can be cut behind them
        writer = await Writer.begin(connection, 0)
        early = Known("p_early", "team", {"site": "b"}, early_ms, 1, early_ms + 60_000, 1, "released")
        await writer.leases({("birch", f"early{number}"): early for number in range(5)}, {})
    await write_history(engine, [event for _, event in read_history(HISTORY, "march.jsonl")])
    made = House(engine, tmp_path / "archive")
    await PriceLists(engine, lambda: LATER_MS).add((EXAMPLES / "prices.toml").read_text(), actor="k")
    await made.close("2026-03")
    return made


async def code(awaited: Any) -> str:
    try:
        await awaited
    except Refusal as refusal:
        return refusal.code
    return "ok"


async def test_leases_leave_and_all_that_was_billed_stays(house: House) -> None:
    before, leases = await house.files(), await house.leases()
    archived = await house.archive()
    assert archived.created
    assert await house.files() == before
    left = {lease for lease, ended_ms in leases.items() if ended_ms is not None and ended_ms <= MARCH_END_MS}
    left.remove("a1")  # it began in February, which nobody closed
    assert await house.leases() == {lease: end for lease, end in leases.items() if lease not in left}
    assert archived.signed["files"][LEASES]["rows"] == len(left)
    assert archived.signed["files"][CHAIN]["rows"] > 0
    assert is_archive(archived.folder)
    assert verify_archive(archived.folder, SIGNER.kid) == ([], archived.signed)
    again = await house.archive()
    assert (again.created, again.signed) == (False, archived.signed)
    async with reading(house.engine) as connection:
        rows = await audit.listed(connection, tenant=None, after=0, limit=99)
    (row,) = [row for row in rows if row.action == "month.archive"]
    assert (row.actor, row.detail["leases"]) == ("k", len(left))


async def test_later_months_close_and_are_archived_after_it(house: House) -> None:
    assert await code(house.archive("2026-04")) == "conflict"  # not closed
    await house.close("2026-04")
    assert await code(house.archive("2026-04")) == "conflict"  # March first
    march = await house.archive()
    await house.close("2026-05")
    april = await house.archive("2026-04")
    ends = {part["partition"]: part for part in march.signed["chain"]}
    for part in april.signed["chain"]:
        before = ends.get(part["partition"])
        assert before is None or (before["to_pos"] + 1, before["hash"]) == (part["from_pos"], part["prev"])
    assert verify_archive(april.folder) == ([], april.signed)
    assert await code(house.months.open("2026-04")) == "conflict"
    assert await code(house.months.open("2026-05")) == "ok"
    assert await code(house.close("2026-03")) == "ok"  # closed it was, and is


async def test_the_oldest_go_by_themselves(house: House) -> None:
    await house.close("2026-04")
    due = [await house.archiving._due(months) for months in (4, 3, 2)]
    assert due == [
        [],
        ["2026-03"],
        ["2026-03", "2026-04"],
    ]  # in July: April to June, May and June, June are kept
    await house.archive()
    assert await house.archiving._due(2) == ["2026-04"]


async def test_nothing_else_may_be_taken_away(house: House) -> None:
    async def refused(statement: str) -> bool:
        try:
            async with writing(house.engine) as connection:
                await connection.execute(text(statement))
        except Refusal as refusal:
            return refusal.code == "conflict"
        return False

    chain = "DELETE FROM usage_chain WHERE pos = 1"
    lease = f"DELETE FROM ledger_leases WHERE ended_ms <= {MARCH_END_MS}"
    assert await refused(chain)
    assert await refused(lease)
    assert await refused("UPDATE months SET archived_ms = 1, archived_from_ms = 1, token = 'x'")
    await house.close("2026-04")
    await house.archive()
    assert await refused("UPDATE months SET archived_ms = 2 WHERE period = '2026-03'")
    assert await refused("DELETE FROM usage_chain")
    async with reading(house.engine) as connection:
        first = (await connection.execute(select(func.min(usage_chain.c.pos)))).scalar_one()
    assert first > 1
    assert await refused(f"DELETE FROM usage_chain WHERE pos = {first}")
    assert await refused("DELETE FROM ledger_leases")


@pytest.mark.parametrize("step", ["finish", "_verified", "_put", "_note", "_take_away_all"])
async def test_whoever_dies_in_between_can_be_followed(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before, leases = await house.files(), await house.leases()

    def die(*_: object) -> Any:
        raise RuntimeError("died")

    calls = {"n": 0}

    async def die_at_last(self: Archiving, *, run: Any = Archiving._take_away_all) -> None:
        calls["n"] += 1
        if calls["n"] == 2:
            die()
        await run(self)

    with monkeypatch.context() as broken:
        if step == "finish":
            broken.setattr("seatd.billing.archive.RowsFile.finish", die)
        elif step == "_take_away_all":
            broken.setattr(Archiving, step, die_at_last)
        else:
            broken.setattr(Archiving if step == "_note" else retention, step, die)
        with pytest.raises(RuntimeError):
            await house.archive()
    assert await house.leases() == leases
    whole = is_archive(house.folder / "2026-03")
    assert whole == (step in ("_note", "_take_away_all"))
    archived = await house.archive()
    assert archived.created == (step != "_take_away_all")
    assert len(await house.leases()) == len(leases) - archived.signed["files"][LEASES]["rows"]
    assert verify_archive(archived.folder)[0] == []
    assert await house.files() == before
    assert [each.name for each in house.folder.iterdir()] == ["2026-03"]


async def test_what_is_told_while_files_are_made_is_not_lost(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease that something is told of late stays, so that the next month can correct it."""
    began_ms = parse_instant("2026-03-02T08:00:00+01:00")

    async def told() -> None:
        async with writing(house.engine) as connection:
            writer = await Writer.begin(connection, 0)
            known = Known("p_early", "team", {"site": "b"}, began_ms, 1, began_ms + 90_000, 1, "released")
            keys = [("birch", "early3")]
            await writer.leases(dict.fromkeys(keys, known), await writer.known(set(keys)))

    made = Archiving._made

    async def made_and_told(self: Archiving, *given: Any) -> Any:
        signed = await made(self, *given)
        await told()
        return signed

    before = await house.leases()
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Archiving, "_made", made_and_told)
        assert await code(house.archive()) == "conflict"
    assert await house.leases() == before
    archived = await house.archive()
    assert "early3" in await house.leases()
    assert verify_archive(archived.folder)[0] == []


async def test_what_is_told_late_of_it_changes_nothing(house: House) -> None:
    leases = await house.leases()
    archived = await house.archive()
    standing = await house.leases()
    gone = next(lease for lease in leases if lease not in standing)
    stands = [await house.count(table) for table in (ledger_leases, late_leases, late_facts)]
    began_ms = parse_instant("2026-03-20T08:00:00+01:00")
    async with writing(house.engine) as connection:
        writer = await Writer.begin(connection, 0)
        known = Known("p_0000000000000000", "team", {}, began_ms, 1, began_ms + 1_000, 1, "released")
        keys = [("acme", gone), ("acme", "never seen")]
        await writer.leases(dict.fromkeys(keys, known), await writer.known(set(keys)))
    assert [await house.count(table) for table in (ledger_leases, late_leases, late_facts)] == stands
    accounts = Accounts(house.engine, lambda: LATER_MS)

    def meter(meter_id: str) -> Any:
        return accounts.meter("acme", "ocr_pages", "1", meter_id, at_ms=began_ms, actor="k")

    assert await code(meter("new")) == "conflict"
    await house.close("2026-04")
    april = await house.closed.find("2026-04")
    assert april is not None
    assert (await house.closed.read(april, "corrections.csv")).count(b"\n") == 1
    assert archived.created


@pytest.fixture
async def archive(house: House) -> Path:
    return (await house.archive()).folder


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_one_changed_byte_is_found_and_the_file_named(archive: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([LEASES, CHAIN, MANIFEST]))
    raw = (archive / name).read_bytes()
    at = data.draw(st.integers(0, len(raw) - 1))
    try:
        (archive / name).write_bytes(
            raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
        )
        found, _ = verify_archive(archive)
        assert any(each.startswith(name) for each in found), found
    finally:
        (archive / name).write_bytes(raw)


def test_what_is_missing_or_added_is_named(archive: Path) -> None:
    def with_(change: Callable[[Path], object]) -> list[str]:
        copy = archive.parent / "copy"
        shutil.copytree(archive, copy)
        change(copy)
        try:
            return verify_archive(copy)[0]
        finally:
            shutil.rmtree(copy)

    assert with_(lambda _: None) == []
    assert with_(lambda at: (at / CHAIN).unlink()) == [f"{CHAIN}: is missing"]
    assert with_(lambda at: (at / "more").touch()) == ["more: does not belong there"]
    assert verify_archive(archive, "another")[0] == [
        f"{MANIFEST}: was signed by the key {SIGNER.kid}, not by another"
    ]
