"""Kill -9 at every write and commit of a close: the month is then open, or closed whole."""

import asyncio
import contextlib
import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.billing import verify_bundle
from seatd.billing.historyfile import read_history
from seatd.database.engine import make_engine, reading
from seatd.flows.closed_months import ClosedMonths
from seatd.flows.months import Months
from seatd.flows.price_lists import PriceLists
from tests.flows.history_rows import write_history
from tests.flows.killed_closing import LATER_MS
from tests.servers import SeatdProcess

EXAMPLES = Path(__file__).parent.parent / "billing" / "examples"


def test_a_killed_close_leaves_a_month_open_or_closed_whole(database_url: str) -> None:
    asyncio.run(prepare(database_url))
    command = [sys.executable, "-m", "tests.flows.killed_closing", database_url, "2026-03"]
    killed = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while True:
            process.stdin.write("\n")
            process.stdin.flush()
            said = process.stdout.readline().strip()
            whole = asyncio.run(look(database_url))
            if said == "done":
                break
            assert said == "killed"
            assert not whole  # the last write is the commit that closes it
            killed += 1
        process.stdin.close()
    assert whole
    assert killed >= 10
    asyncio.run(nothing_is_left(database_url))


def test_a_server_killed_while_it_closes_or_exports_leaves_nothing_half(
    new_seatd: Callable[..., SeatdProcess], tmp_path: Path
) -> None:
    server = new_seatd().start()
    url = f"sqlite:///{server.data / 'seatd.db'}"
    asyncio.run(prepare(url, tenants=60))
    for delay_s in (0.02, 0.1, 0.2, 0.4):
        closing = threading.Thread(target=ask, args=(server,))
        closing.start()
        time.sleep(delay_s)
        server.kill()
        closing.join()
        asyncio.run(look(url, whole=False))
        server.start()
    assert server.admin("POST", "/v1/billing/2026-03/close").status == 200
    asyncio.run(look(url, whole=False))
    target = tmp_path / "acme.tar.gz"
    environ = {**os.environ, "SEATD_URL": server.internal_url, "SEATD_ADMIN_KEY": server.admin_key}
    command = [
        sys.executable,
        "-c",
        KILLED_EXPORT,
        "export",
        "2026-03",
        "--evidence",
        "acme",
        "-o",
        str(target),
    ]
    for step, status in (("1", -9), ("2", -9), ("0", 0)):
        done = subprocess.run(command, env={**environ, "KILLED_AT": step}, check=False, capture_output=True)
        assert done.returncode == status, done.stderr
        assert target.exists() is (status == 0)
    verify = [sys.executable, "-m", "seatd", "billing", "verify", str(target)]
    assert subprocess.run(verify, check=False, capture_output=True).returncode == 0
    target.write_bytes(target.read_bytes()[:-1] + b"!")
    wrong = subprocess.run(verify, check=False, capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout.partition(":")[0]) == (1, "seal.json")


KILLED_EXPORT = """
import io, os, pathlib, signal
at = os.environ["KILLED_AT"]
def never(*_):
    os.kill(os.getpid(), signal.SIGKILL)
class Half(io.FileIO):
    def write(self, raw):
        super().write(raw[: len(raw) // 2])
        never()
if at == "1":
    whole = pathlib.Path.open
    pathlib.Path.open = lambda path, mode="r", *more: (Half if mode == "wb" else whole)(path, mode, *more)
if at == "2":
    pathlib.Path.replace = never
from seatd.cli.billing import billing
billing()
"""


def ask(server: SeatdProcess) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        server.admin("POST", "/v1/billing/2026-03/close", timeout=60)


async def prepare(url: str, tenants: int = 0) -> None:
    engine = make_engine(url)
    lines = (EXAMPLES / "march.jsonl").read_bytes().splitlines()
    lines += [
        line.replace(b'"acme"', f'"z{number}"'.encode())
        for number in range(tenants)
        for line in lines
        if b'"acme"' in line
    ]
    await write_history(engine, [event for _, event in read_history(lines, "h")])
    await PriceLists(engine, lambda: LATER_MS).add((EXAMPLES / "prices.toml").read_text(), actor="k")
    await engine.dispose()


async def look(url: str, *, whole: bool = True) -> bool:
    """Tell whether the month is closed; whichever it is, it is so whole."""
    engine = make_engine(url)
    try:
        closed = ClosedMonths(engine)
        expected = (EXAMPLES / "march.charges.csv").read_bytes()
        month = await closed.find("2026-03")
        if month is None:
            assert not whole or await preview(engine) == expected
            return False
        for name, stated in month.signed["files"].items():
            raw = await closed.read(month, name)
            assert {"bytes": len(raw), "sha256": verify_bundle.sha256(raw)} == stated
        assert not whole or await closed.read(month, "charges.csv") == expected
        for tenant in ("acme", "birch", "cedar"):
            found: list[str] = []
            files = verify_bundle.unpack(await closed.bundle(month, tenant), found)
            assert [*found, *verify_bundle.check(files, month.kid)] == []
        return True
    finally:
        await engine.dispose()


async def preview(engine: AsyncEngine) -> bytes:
    lists = PriceLists(engine, lambda: LATER_MS)
    months = Months(engine, lists, clock=lambda: LATER_MS, waiting=lambda: 0)
    opened = await months.open("2026-03")
    return b"".join([chunk async for chunk in months.exported(opened, "charges", "csv")])


async def nothing_is_left(url: str) -> None:
    engine = make_engine(url)
    async with reading(engine) as connection:
        for query in (
            "SELECT count(*) FROM month_parts WHERE token NOT IN (SELECT token FROM months)",
            "SELECT count(*) FROM months WHERE state <> 'closed'",
            "SELECT count(*) FROM audit WHERE action = 'month.close' HAVING count(*) <> 1",
        ):
            assert not (await connection.execute(text(query))).scalar()
    await engine.dispose()
