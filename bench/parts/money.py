"""A month in money: rated from the ledger and from a file, beside a mere query for peaks; closed beside renewals."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import month
from bench.parts import TENANT, Bench
from bench.server import Server

TENANTS, LEASES = 5_000, 1_000_000
QUICK_SHARE = 20
PEAK_RUNS = 3
OFFERED_PER_S = 1_000
BESIDE_S = 8.0
PROJECTED_S = 180.0
LOOK_EVERY_S = 3.0
BESIDE_MOST_S = 60.0
"""How long renewals are measured beside a close at most: on few CPUs it has little of them, and takes many minutes."""


async def rating(bench: Bench) -> None:
    """Rate a month from SQLite, from PostgreSQL and from a history file; ask DuckDB for its peaks."""
    async with _made(bench) as (folder, made):
        peaks = [
            await month.measured("bench.month", "peaks", f"{folder}/leases.parquet") for _ in range(PEAK_RUNS)
        ]
        files = ("--history", f"{folder}/history.jsonl", "--price-list", f"{folder}/prices.toml")
        file = await month.measured("seatd", "billing", "rate", *files, "--period", month.PERIOD)
        found: dict[str, Any] = {"peaks": min(peaks)._asdict(), "file": file._asdict(), "ledger": {}}
        for name, url in _databases(bench, folder):
            await month.fill(made, url, _tenants(bench))
            found["ledger"][name] = (await month.measured("bench.month", "ledger", url))._asdict()
        bench.found["rating"] = {"leases": _leases(bench), "tenants": _tenants(bench), **found}


async def closing(bench: Bench) -> None:
    """Close a month while others renew; the latency of renewals before and beside it."""
    rows: dict[str, Any] = {}
    async with _made(bench) as (folder, made):
        for name, url in _databases(bench, folder):
            await month.fill(made, url, _tenants(bench))
            async with Server("--database", url) as server:
                rows[name] = await _closed(bench, server)
    bench.found["closing"] = {"leases": _leases(bench), "tenants": _tenants(bench), "databases": rows}


async def _closed(bench: Bench, server: Server) -> dict[str, Any]:
    key = await server.tenant(TENANT, tariff="team", seats=1_000_000)
    await _projected(server)
    plan: dict[str, Any] = {"rate": OFFERED_PER_S, "seconds": BESIDE_S}
    alone = await bench.renewals(server, key, **plan)
    began_s = time.perf_counter()
    closing = asyncio.create_task(server.close_month(month.PERIOD))
    beside: list[dict[str, Any]] = []
    beside_s = 0.0
    while not closing.done() and beside_s < BESIDE_MOST_S:
        beside.append(await bench.renewals(server, key, prefix=f"b{len(beside)}", **plan))
        beside_s = time.perf_counter() - began_s
    closed = closing.done()
    if closed:
        await closing
    else:
        server.kill()
        await asyncio.wait([closing])
        closing.exception()  # nobody waits for its answer
    return {
        "alone": alone["all"],
        "beside": [each["all"] for each in beside],
        "seconds": round(beside_s, 1),
        "closed": closed,
    }


async def _projected(server: Server) -> None:
    """Wait until nothing more is brought into force: that is a start's work with many tenants, not a close's."""
    before, until_s = -1.0, time.monotonic() + PROJECTED_S
    while time.monotonic() < until_s:
        counted = re.search(
            r'^seatd_projections_total{outcome="ok"} (\S+)', await server.text("/metrics"), re.MULTILINE
        )
        now = float(counted[1]) if counted else 0.0
        if now == before:
            return
        before = now
        await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def _made(bench: Bench) -> AsyncIterator[tuple[Path, Any]]:
    with TemporaryDirectory(prefix="seatd-bench-") as name:
        made = await asyncio.to_thread(month.make, Path(name), _tenants(bench), _leases(bench))
        yield Path(name), made
        made.close()


def _databases(bench: Bench, folder: Path) -> list[tuple[str, str]]:
    urls = [("SQLite", f"sqlite:///{folder}/ledger.db"), ("PostgreSQL", bench.database(driver=True))]
    return [(name, url) for name, url in urls if url]


def _tenants(bench: Bench) -> int:
    return TENANTS // (QUICK_SHARE if bench.quick else 1)


def _leases(bench: Bench) -> int:
    return LEASES // (QUICK_SHARE if bench.quick else 1)
