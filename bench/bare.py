"""The peer: an aiohttp handler on uvloop that decodes a renewal and encodes an answer of the same size, and nothing else.

No key is checked, no receipt, no store is asked: what is left is the price of HTTP and MessagePack in this process.
"""

import asyncio
from typing import Any

import msgpack
import uvloop
from aiohttp import web

MSGPACK = "application/msgpack"


async def _answer(request: web.Request) -> web.Response:
    body: dict[str, Any] = msgpack.unpackb(await request.read())
    answer = {
        "lease": request.match_info["lease"],
        "expires_ms": 1_800_000_000_000,
        "ttl_ms": 300_000,
        "renew_after_ms": 100_000,
        "receipt": body["receipt"],
    }
    return web.Response(body=msgpack.packb(answer), content_type=MSGPACK)


async def _serve() -> None:
    app = web.Application()
    app.add_routes([web.post("/v1/leases/{lease}/renew", _answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(_serve())
