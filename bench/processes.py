"""Which process runs where: the generator on the last CPU, everything that is measured on the others.

With two CPUs server, store and recorder share the one that the generator leaves; that is said in the report, not hidden.
"""

import asyncio
import json
import os
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60.0


def settle() -> int | None:
    """Keep this process and what it starts off the generator's CPU; gives that CPU, None where nothing can be pinned."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # thousands of sockets, on both ends
    if not hasattr(os, "sched_setaffinity"):
        return None
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        return None
    os.sched_setaffinity(0, set(cpus[:-1]))
    return cpus[-1]


class Generator:
    """Starts load generators, each a process of its own on its CPU."""

    def __init__(self, core: int | None) -> None:
        self._core = core

    async def run(self, url: str, **plan: Any) -> dict[str, Any]:
        """Run a plan to its end; gives what was counted.  Raises `RuntimeError` where the generator fails."""
        process = await self._start(url, plan)
        try:
            async with asyncio.timeout(PATIENCE_S + plan["seconds"]):
                out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            raise RuntimeError(f"the load generator ended with {process.returncode}")
        counted: dict[str, Any] = json.loads(out)
        return counted

    @asynccontextmanager
    async def holding(self, url: str, **plan: Any) -> AsyncIterator[None]:
        """Hold connections open that say nothing."""
        process = await self._start(url, {"work": "idle", "seconds": 0, **plan})
        assert process.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE_S):
                if not await process.stdout.readline():
                    raise RuntimeError("the connections could not be opened")
            yield
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _start(self, url: str, plan: dict[str, Any]) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.generator",
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        whole = {"url": url, "transport": "http", "connections": 64, "seed": 1, "core": self._core, **plan}
        process.stdin.write(json.dumps(whole).encode() + b"\n")
        await process.stdin.drain()
        return process


class Peer(NamedTuple):
    """A server to measure: where it is, and its process."""

    url: str
    pid: int


@asynccontextmanager
async def peer(module: str, *arguments: str) -> AsyncIterator[Peer]:
    """Run a peer."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"bench.peers.{module}", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            url = (await process.stdout.readline()).decode().strip()
        if not url:
            raise RuntimeError(f"the peer {module} did not start")
        yield Peer(url, process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def cpu_s(pid: int) -> dict[str, float]:
    """Read how much CPU a process and those it started have used, by name (Linux)."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    used: dict[str, float] = {}
    for each in pids:
        name, _, rest = Path(f"/proc/{each}/stat").read_text().partition("(")[2].rpartition(")")
        fields = rest.split()
        used[name] = used.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


def resident_bytes(pid: int) -> int:
    """Read how much memory a process has resident (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
