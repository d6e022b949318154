"""What one seatd serves, beside a bare handler that only decodes and encodes: `make bench`.

Prints one table, and writes it with commit and machine to var/bench.json.  How to read it: README.md beside this file.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.server import Server

ROOT = Path(__file__).parents[1]
CONNECTIONS = 32
TENANT, USERS = "bench", 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="for each measurement (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "var" / "bench.json", help="(%(default)s)")
    options = parser.parse_args(arguments)
    rows = asyncio.run(_measured(options.seconds))
    report = {"commit": _commit(), "at": datetime.now(UTC).isoformat(timespec="seconds"), **_machine()}
    report |= {"connections": CONNECTIONS, "seconds": options.seconds, "rows": rows}
    _print(report)
    options.out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"Written to {options.out}")
    return 1 if any(row["failed"] for row in rows) else 0


async def _measured(seconds: float) -> list[dict[str, Any]]:
    """Take each measurement, the bare handler before and after ours: what drifts shows in their difference."""
    rows = [{"what": "bare handler, before", **await _bare(seconds)}]
    async with Server() as server:
        key = await server.tenant(TENANT, tariff="team", seats=USERS)
        for what in ("renew", "cycle"):
            load = ["--url", server.url, "--what", what, "--seconds", str(seconds)]
            rows.append({"what": _NAMES[what], **await _load(load, key)})
    rows.append({"what": "bare handler, after", **await _bare(seconds)})
    bare = (rows[0]["per_s"] + rows[-1]["per_s"]) / 2
    for row in rows:
        row["ratio"] = round(row["per_s"] / bare, 3) if bare else 0
    return rows


_NAMES = {"renew": "renewals", "cycle": "acquire, renew, release"}


async def _bare(seconds: float) -> dict[str, Any]:
    peer = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.bare", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert peer.stdout is not None
        url = (await peer.stdout.readline()).decode().strip()
        return await _load(["--url", url, "--what", "bare", "--seconds", str(seconds)], "none")
    finally:
        peer.terminate()
        await peer.wait()


async def _load(options: list[str], key: str) -> dict[str, Any]:
    """Run the load generator in a process of its own; gives what it counted."""
    command = [sys.executable, "-m", "bench.load", "--connections", str(CONNECTIONS), *options]
    load = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, env={**os.environ, "SEATD_CLIENT_KEY": key}
    )
    out, _ = await load.communicate()
    if load.returncode:
        raise RuntimeError(f"the load generator ended with {load.returncode}")
    counted: dict[str, Any] = json.loads(out)
    return counted


def _commit() -> str:
    """Name the commit, and whether the tree differs from it; `unknown` outside of a clone."""
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return asked.stdout.strip()


def _machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(load, 2),
    }


def _print(report: dict[str, Any]) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    title = f"{report['commit']}, {report['cpu']} x {report['cpus']}, Python {report['python']}, load {report['load_before']}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "req/s", "ratio", "p50 ms", "p99 ms", "failed"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for row in report["rows"]:
        cells = (
            f"{row['per_s']:,.0f}",
            f"{row['ratio']:.2f}",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
        )
        table.add_row(row["what"], *cells, str(row["failed"]))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
