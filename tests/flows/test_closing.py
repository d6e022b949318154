"""Closing a month: what is refused, what is frozen, what stands afterwards, and what the evidence proves."""

import asyncio
import gzip
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.billing import verify_bundle
from seatd.billing.historyfile import parse_instant, read_history
from seatd.database.engine import writing
from seatd.flows.closed_months import ClosedMonths
from seatd.flows.closing import Closing, Waits
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
