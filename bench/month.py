"""A made-up month: so many tenants, so many leases, as history file, as Parquet and as the ledger of a database.

The same number of leases gives the same month, made by DuckDB within seconds.  Run as a program it is what is measured, a process each:
`ledger URL` rates the month from a database, `peaks FILE` merely asks DuckDB how many leases of each tenant were open at most.
"""

import asyncio
import json
import os
import resource
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import duckdb

from bench.processes import ROOT
from seatd.database import migrations
from seatd.database.engine import make_engine
from seatd.flows.months import Months
from seatd.flows.price_lists import PriceLists
from seatd.usage.chain import GENESIS, link_hash

Rows = tuple[str, str, list[tuple[Any, ...]]]
"""A table, its columns, and rows of them."""

PERIOD = "2026-03"
BEGIN_MS = int(datetime(2026, 2, 28, 23, tzinfo=UTC).timestamp() * 1000)
END_MS = int(datetime(2026, 3, 31, 22, tzinfo=UTC).timestamp() * 1000)
SEATS = 40
BATCH = 50_000
THREADS = 1
"""For DuckDB, as rating has one."""

_LEASES = f"""
CREATE TABLE leases AS
SELECT printf('t%05d', n % {{tenants}}) AS tenant, printf('l%08d', n) AS lease,
  printf('u%05d', hash(n * 7) % 60) AS person, started_ms, started_ms + (600000 + hash(n * 3) % 28800000)::BIGINT AS ended_ms
FROM (SELECT n, {BEGIN_MS} + (hash(n) % {END_MS - BEGIN_MS})::BIGINT AS started_ms FROM range({{leases}}) AS t(n))
"""
_TOLD = """
SELECT line FROM (
  SELECT {begin} AS at_ms, n AS lot, printf('{{"at":"%s","tenant":"t%05d","event":"tariff","tariff":"team"}}', {at0}, n) AS line
    FROM range({tenants}) AS t(n)
  UNION ALL SELECT {begin}, n + 0.5,
    printf('{{"at":"%s","tenant":"t%05d","event":"booking","product":"team","quantity":{seats}}}', {at0}, n) FROM range({tenants}) AS t(n)
  UNION ALL SELECT started_ms, 0,
    printf('{{"at":"%s","tenant":"%s","event":"seat_started","lease":"%s","user":"%s"}}', {at1}, tenant, lease, person) FROM leases
  UNION ALL SELECT ended_ms, 0,
    printf('{{"at":"%s","tenant":"%s","event":"seat_ended","lease":"%s"}}', {at2}, tenant, lease) FROM leases
) ORDER BY at_ms, lot, line
"""
_PEAKS = """
SELECT tenant, max(open) FROM (
  SELECT tenant, sum(step) OVER (PARTITION BY tenant ORDER BY at_ms, step) AS open FROM (
    SELECT tenant, started_ms AS at_ms, 1 AS step FROM read_parquet(?) UNION ALL SELECT tenant, ended_ms, -1 FROM read_parquet(?)
  )
) GROUP BY tenant ORDER BY tenant
"""


class Run(NamedTuple):
    """What a process took: seconds, and the most memory that it had resident."""

    seconds: float
    rss_bytes: int
    lines: int


def _at(column: str) -> str:
    return f"strftime(make_timestamp(({column} * 1000)::BIGINT), '%Y-%m-%dT%H:%M:%S.%gZ')"


def make(folder: Path, tenants: int, leases: int) -> duckdb.DuckDBPyConnection:
    """Make `history.jsonl`, `leases.parquet` and `prices.toml`; the connection still has the table `leases`."""
    connection = duckdb.connect()
    connection.execute(_LEASES.format(tenants=tenants, leases=leases))
    connection.execute(f"COPY leases TO '{folder}/leases.parquet' (FORMAT parquet)")
    told = _TOLD.format(
        begin=BEGIN_MS,
        tenants=tenants,
        seats=SEATS,
        at0=_at(str(BEGIN_MS)),
        at1=_at("started_ms"),
        at2=_at("ended_ms"),
    )
    options = "FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\t'"
    connection.execute(f"COPY ({told}) TO '{folder}/history.jsonl' ({options})")
    (folder / "prices.toml").write_text(prices())
    return connection


def prices() -> str:
    """Read the example price list."""
    return (files("seatd.catalogue") / "example.toml").read_text()


def _lots(connection: duckdb.DuckDBPyConnection) -> Iterator[list[tuple[Any, ...]]]:
    rows = connection.execute(
        "SELECT tenant, lease, person, started_ms, ended_ms FROM leases ORDER BY started_ms"
    )
    while lot := rows.fetchmany(BATCH):
        yield lot


async def fill(connection: duckdb.DuckDBPyConnection, url: str, tenants: int) -> None:
    """Put the month into an empty database, as the recorder leaves it."""
    await asyncio.to_thread(asyncio.run, migrations.upgrade(url))
    tables = chain(_accounts(tenants), _recorded(connection))
    if url.startswith("sqlite"):
        await asyncio.to_thread(_fill_sqlite, url, tables)
    else:
        await _fill_postgres(url, tables)
    engine = make_engine(url)
    await PriceLists(engine, lambda: BEGIN_MS).add(prices(), actor="bench")
    await engine.dispose()


def _accounts(tenants: int) -> Iterator[Rows]:
    names = [f"t{number:05}" for number in range(tenants)]
    columns = "id name customer labels lease_ttl_ms policy_version created_ms changed_ms"
    yield "tenants", columns, [(each, each, each, "{}", 300_000, 1, BEGIN_MS, BEGIN_MS) for each in names]
    columns = "tenant tariff trial at_ms decided_ms"
    yield "tariffs", columns, [(each, "team", False, BEGIN_MS, BEGIN_MS) for each in names]
    columns = "tenant product quantity effective_ms decided_ms"
    yield "bookings", columns, [(each, "team", SEATS, BEGIN_MS, BEGIN_MS) for each in names]


def _recorded(connection: duckdb.DuckDBPyConnection) -> Iterator[Rows]:
    """Give the rows of leases and of their chain, a lot at a time, and at last where the chain ends."""
    leases = (
        "tenant lease person started_ms ended_ms partition pos tariff start_epoch end_epoch end_reason labels"
    )
    pos, last = 0, GENESIS
    for lot in _lots(connection):
        links, rows = [], []
        for row in lot:
            tenant, lease, person, started_ms, ended_ms = row
            pos += 1
            told = json.dumps(
                ["lease", tenant, lease, person, "team", started_ms, ended_ms, "released"],
                separators=(",", ":"),
            )
            last = link_hash(last, 0, pos, told)
            links.append((0, pos, told, last))
            rows.append((*row, 0, pos, "team", 1, 1, "released", "{}"))
        yield "ledger_leases", leases, rows
        yield "usage_chain", "partition pos row hash", links
    yield "chain_heads", "partition pos hash", [(0, pos, last)]


def _fill_sqlite(url: str, tables: Iterable[Rows]) -> None:
    connection = sqlite3.connect(url.partition(":///")[2])
    for table, columns, rows in tables:
        names = columns.split()
        marks = ", ".join("?" * len(names))
        quoted = ", ".join(f'"{name}"' for name in names)
        connection.executemany(f"INSERT INTO {table} ({quoted}) VALUES ({marks})", rows)
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("ANALYZE")
    connection.close()


async def _fill_postgres(url: str, tables: Iterable[Rows]) -> None:
    connection = await asyncpg.connect(url.replace("postgresql+asyncpg", "postgresql"))
    for table, columns, rows in tables:
        await connection.copy_records_to_table(table, records=rows, columns=columns.split())
    await connection.execute("ANALYZE")
    await connection.close()


# -- what is measured, a process each ------------------------------------------------------------------


async def measured(*command: str) -> Run:
    """Run a program to its end; raises `RuntimeError` where it fails."""
    began_s = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.month", "measure", *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} ended with {process.returncode}")
    rss_kib, lines = map(int, out.split())
    return Run(time.perf_counter() - began_s, rss_kib * 1024, lines)


def _measure(command: list[str]) -> None:
    """Run a program and tell its peak of memory (KiB) and how many lines it printed."""
    reader, writer = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", *command],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)],
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as out:
        lines = sum(1 for _ in out)
    _, status, _ = os.wait4(pid, 0)
    if status:
        sys.exit(1)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, lines)


async def _ledger(url: str) -> None:
    engine = make_engine(url)
    months = Months(engine, PriceLists(engine, lambda: END_MS), clock=lambda: END_MS, waiting=lambda: 0)
    async for part in months.exported(await months.open(PERIOD), "charges", "csv"):
        sys.stdout.buffer.write(part)
    await engine.dispose()


def _peaks(path: str) -> None:
    connection = duckdb.connect(config={"threads": THREADS})
    for tenant, peak in connection.execute(_PEAKS, [path, path]).fetchall():
        print(tenant, peak)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["measure", *command]:
            _measure(command)
        case ["ledger", url]:
            asyncio.run(_ledger(url))
        case ["peaks", path]:
            _peaks(path)
