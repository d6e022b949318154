"""What seatd serves, beside its peers, all in one run: `make bench`.

Prints one table; writes it with commit and machine to var/bench/bench.json, and charts beside it.  How to read it: README.md
beside this file.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import figures, report
from bench.parts import Bench, alone, channel, curves, http, money, pressure
from bench.processes import Generator, peer, settle
from tests import postgres

PARTS: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "http": http.run,
    "script": http.script,
    "sql": http.sql,
    "channel": channel.run,
    "scripts": alone.batches,
    "sizes": alone.sizes,
    "tenants": alone.tenants,
    "many": http.tenants,
    "memory": alone.memory,
    "idle": channel.idle,
    "storm": pressure.storm,
    "overload": pressure.overload,
    "ledger": alone.ingest,
    "rating": money.rating,
    "curves": curves.run,
    "closing": money.closing,
}
NEED_POSTGRES = {"sql", "ledger", "rating", "closing", "curves"}
SECONDS, SECONDS_QUICK = 4.0, 1.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit status: 1 where an answer was not what it should be."""
    options = _parser().parse_args(arguments)
    wanted = options.only or list(PARTS)
    about = {
        "commit": report.commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **report.machine(),
    }
    core = settle()
    seconds = options.seconds or (SECONDS_QUICK if options.quick else SECONDS)
    bench = Bench(seconds, options.quick, Generator(core))
    about |= {"seconds": bench.seconds, "quick": options.quick, "generator_cpu": core}
    with _durable_postgres(wanted=not NEED_POSTGRES.isdisjoint(wanted)) as bench.postgres:
        missing = asyncio.run(_measured(bench, wanted, options.minutes))
    about["load_after"] = report.load()
    rows = figures.figures(bench.found)
    wrong = [*missing, *report.failures(bench.found)]
    title = f"{about['commit']}, {about['cpu']} x {about['cpus']}, Python {about['python']}, load {about['load_before']}"
    report.draw(title, rows)
    folder: Path = options.out
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in bench.left_out:
        print(f"Left out: {each}")
    whole = {
        **about,
        "left_out": bench.left_out,
        "figures": [row.view() for row in rows],
        "wrong": wrong,
        "found": bench.found,
    }
    (folder / "bench.json").write_text(json.dumps(whole, indent=2) + "\n")
    files = [folder / "bench.json", *_charts(bench.found, title, folder)]
    print("Written: " + ", ".join(str(file) for file in files))
    for each in wrong:
        print(f"WRONG: {each}")
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="shorter and smaller: a look, not a measurement")
    parser.add_argument(
        "--seconds", type=float, help=f"for each measurement ({SECONDS}, quick {SECONDS_QUICK})"
    )
    parser.add_argument("--minutes", type=float, default=20, help="for all together (%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=report.ROOT / "var" / "bench", help="folder (%(default)s)"
    )
    return parser


@contextmanager
def _durable_postgres(*, wanted: bool) -> Iterator[postgres.PostgresServer | None]:
    """Start PostgreSQL as it is by itself, but for where it listens; None where nobody wants it, or its binaries are missing."""
    if not wanted:
        yield None
        return
    kept = ("listen_addresses", "max_connections")
    for name in [*postgres.OPTIONS]:
        if name not in kept:  # what the tests spare, a measurement must not
            del postgres.OPTIONS[name]
    try:
        server = postgres.PostgresServer()
    except FileNotFoundError as error:
        print(f"Without PostgreSQL: {error}")
        yield None
        return
    try:
        server.start()
        yield server
    finally:
        server.remove()


async def _measured(bench: Bench, wanted: Sequence[str], minutes: float) -> list[str]:
    """Take each part in turn, for so many minutes in all; gives those that failed, and why: the others stand."""
    failed = []
    until_s = asyncio.get_running_loop().time() + minutes * 60
    async with peer("bare") as bench.bare:
        for name, part in PARTS.items():
            if name not in wanted:
                continue
            began_s = time.monotonic()
            print(f"{name} ...", end=" ", flush=True)
            try:
                async with asyncio.timeout_at(until_s):
                    await part(bench)
            except TimeoutError:
                bench.left_out.append(f"{name}: out of time")
            except Exception as error:  # noqa: BLE001 - one part's trouble is not the others'
                failed.append(f"{name}: {type(error).__name__}: {error}")
            print(f"{time.monotonic() - began_s:.0f} s", flush=True)
    return failed


def _charts(found: dict[str, Any], title: str, folder: Path) -> list[Path]:
    if "curves" not in found:
        return []
    from bench import charts  # noqa: PLC0415 - needs matplotlib

    return charts.draw(found["curves"], title, folder)


if __name__ == "__main__":
    sys.exit(main())
