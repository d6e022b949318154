"""The load generator: so many connections, each with one request under way, over raw sockets.

Prints what it counted as JSON.  Requests are HTTP/1.1 with keep-alive; the answers' headers are read only as far as
their length needs, so that the generator costs little beside the server.
"""

import argparse
import asyncio
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgpack
import uvloop

MSGPACK = "application/msgpack"
WARM_UP = 0.2  # of the time, before anything is counted


@dataclass
class Counted:
    """What is counted: latencies in nanoseconds, answers that were no success."""

    from_s: float
    until_s: float
    latencies_ns: list[int] = field(default_factory=list)
    failed: int = 0

    @property
    def running(self) -> bool:
        """Tell whether there is time left."""
        return time.perf_counter() < self.until_s

    def add(self, began_ns: int, status: int) -> None:
        """Count an answer, unless it is of the warm-up."""
        if began_ns < self.from_s * 1e9:
            return
        self.latencies_ns.append(time.perf_counter_ns() - began_ns)
        if not 200 <= status < 300:
            self.failed += 1

    def report(self) -> dict[str, Any]:
        """Sum up."""
        ordered = sorted(self.latencies_ns) or [0]
        return {
            "requests": len(self.latencies_ns),
            "per_s": round(len(self.latencies_ns) / (self.until_s - self.from_s), 1),
            "p50_ms": round(ordered[len(ordered) // 2] / 1e6, 3),
            "p99_ms": round(ordered[len(ordered) * 99 // 100] / 1e6, 3),
            "failed": self.failed,
        }


class Connection:
    """One connection with one request under way."""

    def __init__(self, key: str, counted: Counted) -> None:
        self._fixed = f"Host: bench\r\nAuthorization: Bearer {key}\r\nAccept: {MSGPACK}\r\n"
        self._counted = counted

    async def open(self, host: str, port: int) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(host, port)

    async def ask(self, method: str, path: str, body: Any = None, more: str = "") -> Any:
        """Send a request and read its answer; gives the decoded body."""
        packed = b"" if body is None else msgpack.packb(body)
        head = f"{method} {path} HTTP/1.1\r\n{self._fixed}{more}"
        if packed:
            head += f"Content-Type: {MSGPACK}\r\nContent-Length: {len(packed)}\r\n"
        began_ns = time.perf_counter_ns()
        self._writer.write(head.encode() + b"\r\n" + packed)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(answer[9:12])
        _, found, rest = answer.partition(b"content-length:")
        length = int(rest.partition(b"\r\n")[0]) if found else 0
        raw = await self._reader.readexactly(length) if length else b""
        self._counted.add(began_ns, status)
        return msgpack.unpackb(raw) if raw else None


async def _renewing(connection: Connection, counted: Counted, user: str) -> None:
    lease = await connection.ask("POST", "/v1/leases", {"user": user, "client": "bench"})
    while counted.running:
        lease = await connection.ask(
            "POST", f"/v1/leases/{lease['lease']}/renew", {"receipt": lease["receipt"]}
        )


async def _cycling(connection: Connection, counted: Counted, user: str) -> None:
    while counted.running:
        lease = await connection.ask("POST", "/v1/leases", {"user": user, "client": "bench"})
        path = f"/v1/leases/{lease['lease']}"
        lease = await connection.ask("POST", f"{path}/renew", {"receipt": lease["receipt"]})
        await connection.ask("DELETE", path, more=f"Seat-Receipt: {lease['receipt']}\r\n")


async def _bare(connection: Connection, counted: Counted, _: str) -> None:
    receipt = "A" * 160  # as long as a receipt of the service
    while counted.running:
        await connection.ask("POST", "/v1/leases/l_0123456789abcdefghij/renew", {"receipt": receipt})


_WHATS = {"renew": _renewing, "cycle": _cycling, "bare": _bare}


async def _run(options: argparse.Namespace) -> None:
    url = urlsplit(options.url)
    now_s = time.perf_counter()
    counted = Counted(now_s + options.seconds * WARM_UP, now_s + options.seconds)
    connections = [
        Connection(os.environ.get("SEATD_CLIENT_KEY", ""), counted) for _ in range(options.connections)
    ]
    await asyncio.gather(*(each.open(url.hostname or "", url.port or 80) for each in connections))
    what = _WHATS[options.what]
    await asyncio.gather(
        *(what(each, counted, f"{options.what}-{number}") for number, each in enumerate(connections))
    )
    print(json.dumps(counted.report()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--what", choices=sorted(_WHATS), required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(_run(parser.parse_args()))
