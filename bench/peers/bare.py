"""Peer (a): aiohttp handlers on uvloop that decode the same requests and encode the same fields, and nothing else.

No key is checked, no receipt is made or looked at, no store is asked.  The other peers put their work between decode
and encode; `Work` is what they replace.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import uvloop
from aiohttp import web

MSGPACK = "application/msgpack"
TTL_MS = 300_000
RECEIPT = "A" * 164  # as long as a receipt of the service


class AcquireBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a client sends to take a seat."""

    user: str
    client: str
    request_id: str | None = None


class RenewBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a client sends to renew."""

    receipt: str


class Work(NamedTuple):
    """What a peer does between decode and encode; each gives the instant (ms) of expiry, 0 where there is no seat."""

    acquire: Callable[[str, str, str], Awaitable[int]]
    renew: Callable[[str], Awaitable[int]]
    release: Callable[[str], Awaitable[None]]


async def _in_time(*_: str) -> int:
    return time.time_ns() // 1_000_000 + TTL_MS


async def _nothing(_: str) -> None:
    return None


NONE = Work(_in_time, _in_time, _nothing)

_encode = msgspec.msgpack.Encoder().encode
_acquire_body = msgspec.msgpack.Decoder(AcquireBody).decode
_renew_body = msgspec.msgpack.Decoder(RenewBody).decode


def make_app(work: Work, cleanup: Callable[[web.Application], Any] | None = None) -> web.Application:
    """Make the application of a peer."""
    app = web.Application()
    leases = 0

    async def acquire(request: web.Request) -> web.Response:
        nonlocal leases
        body = _acquire_body(await request.read())
        leases += 1
        lease = f"l{leases:023}"
        expires_ms = await work.acquire(lease, body.user, body.client)
        if not expires_ms:
            problem = {"type": "about:blank", "title": "", "status": 409, "code": "no_seat", "detail": ""}
            return web.Response(status=409, body=_encode(problem), content_type="application/problem+msgpack")
        granted = {
            "lease": lease,
            "tenant": "bench",
            "user": body.user,
            "client": body.client,
            "tariff": "team",
            "addons": [],
            "started_ms": expires_ms - TTL_MS,
            "expires_ms": expires_ms,
            "ttl_ms": TTL_MS,
            "renew_after_ms": TTL_MS // 3,
            "receipt": RECEIPT,
        }
        return web.Response(status=201, body=_encode(granted), content_type=MSGPACK)

    async def renew(request: web.Request) -> web.Response:
        body = _renew_body(await request.read())
        lease = request.match_info["lease"]
        renewed = {
            "lease": lease,
            "expires_ms": await work.renew(lease),
            "ttl_ms": TTL_MS,
            "renew_after_ms": TTL_MS // 3,
            "receipt": body.receipt,
        }
        return web.Response(body=_encode(renewed), content_type=MSGPACK)

    async def release(request: web.Request) -> web.Response:
        await work.release(request.match_info["lease"])
        return web.Response(status=204)

    app.add_routes(
        [
            web.post("/v1/leases", acquire),
            web.post("/v1/leases/{lease}/renew", renew),
            web.delete("/v1/leases/{lease}", release),
        ]
    )
    if cleanup is not None:
        app.cleanup_ctx.append(cleanup)
    return app


async def serve(app: web.Application) -> None:
    """Serve on a free port, and print where."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def run(work: Callable[[], Awaitable[web.Application]]) -> None:
    """Serve the application that `work` makes, until the process is ended."""

    async def main() -> None:
        await serve(await work())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(main())


async def _bare() -> web.Application:
    return make_app(NONE)


if __name__ == "__main__":
    run(_bare)
