"""A server over real HTTP and WebSockets that answers as a test says: late, wrongly, or not at all.

For what a real seatd cannot be asked to do; what it does by itself is tested against a real one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgpack
from aiohttp import web

Answer = Callable[[], Awaitable[web.Response]]


@dataclass
class Seen:
    """A request that came."""

    op: str
    body: dict[str, Any]
    headers: Any
    at_s: float
    way: str = "http"


@dataclass
class Scripted:
    """Grants, renews and releases, but for the answers lined up in `next`."""

    ttl_ms: int = 2_000
    renew_after_ms: int = 200
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    next: dict[str, deque[Answer]] = field(default_factory=dict)
    always: dict[str, Answer] = field(default_factory=dict)
    receipts: int = 0
    features: list[str] = field(default_factory=list)
    abouts: int = 0
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    upgrades: int = 0
    upgrade: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    muted: bool = False

    def line_up(self, op: str, *answers: Answer) -> None:
        self.next.setdefault(op, deque()).extend(answers)

    def ops(self) -> list[str]:
        return [one.op for one in self.seen]

    def bodies(self, op: str) -> list[dict[str, Any]]:
        return [one.body for one in self.seen if one.op == op]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v1":
            self.abouts += 1
            return reply({"version": "0.1.0", "features": self.features})
        if request.path == "/v1/channel":
            self.upgrades += 1
            return await (self.upgrade or self.channel)(request)
        op = {"DELETE": "release", "GET": "addon"}.get(request.method, "")
        op = op or ("renew" if request.path.endswith("/renew") else "acquire")
        raw = await request.read()
        body = msgpack.unpackb(raw) if raw else {}
        self.seen.append(Seen(op, body, request.headers.copy(), asyncio.get_running_loop().time()))
        return await self.answer(op, request, body)

    async def answer(self, op: str, request: web.Request, body: dict[str, Any]) -> web.Response:
        waiting = self.next.get(op)
        if waiting:
            return await waiting.popleft()()
        if op in self.always:
            return await self.always[op]()
        return getattr(self, op)(request, body)

    def ways(self, op: str) -> list[str]:
        return [one.way for one in self.seen if one.op == op]

    async def push(self, kind: str, **fields: Any) -> None:
        for socket in self.sockets:
            await socket.send_bytes(msgpack.packb({"push": kind, **fields}))

    async def channel(self, request: web.Request) -> web.WebSocketResponse:
        """Answer frames as requests are answered."""
        socket = web.WebSocketResponse(protocols=("seatd.v1",), autoping=False)
        await socket.prepare(request)
        self.sockets.append(socket)
        doing: dict[int, asyncio.Task[None]] = {}
        try:
            async for message in socket:
                if self.muted:
                    continue
                if message.type is web.WSMsgType.PING:
                    await socket.pong(message.data)
                elif message.type is web.WSMsgType.BINARY:
                    frame = msgpack.unpackb(message.data)
                    doing[frame["id"]] = asyncio.ensure_future(self.frame(request, socket, frame, doing))
        finally:
            self.sockets.remove(socket)
            for task in doing.values():
                task.cancel()
        return socket

    async def frame(self, request, socket, frame, doing) -> None:
        number, op = frame.pop("id"), frame.pop("op")
        self.seen.append(
            Seen(op, frame, request.headers.copy(), asyncio.get_running_loop().time(), "channel")
        )
        if op == "leave":
            if frame["of"] in doing:
                doing[frame["of"]].cancel()
            await socket.send_bytes(msgpack.packb({"id": number, "ok": {}}))
            return
        asked = [{"lease": lease, "receipt": receipt} for lease, receipt in frame.get("leases", ())] or [
            frame
        ]
        answers = [await self.answer(op, request, one) for one in asked]
        bodies = [msgpack.unpackb(answer.body) if answer.body else {} for answer in answers]
        if "leases" in frame:
            given = [
                {**body, "lease": one["lease"]} if answer.status < 400 else {"error": body}
                for one, answer, body in zip(asked, answers, bodies, strict=True)
            ]
            said = {"id": number, "ok": given}
        else:
            said = {"id": number, "ok" if answers[0].status < 400 else "error": bodies[0]}
        await socket.send_bytes(msgpack.packb(said))

    def lease(self) -> dict[str, Any]:
        self.receipts += 1
        return {
            "lease": "l_1",
            "expires_ms": 10**12 + self.ttl_ms,
            "ttl_ms": self.ttl_ms,
            "renew_after_ms": self.renew_after_ms,
            "receipt": f"r{self.receipts}",
        }

    def granted(self, user: str = "ana", client: str = "desk") -> web.Response:
        lease = {**self.lease(), "tenant": "acme", "user": user, "client": client}
        return reply({**lease, "tariff": "team", "addons": [], "started_ms": 10**12}, 201)

    def acquire(self, _request: web.Request, body: dict[str, Any]) -> web.Response:
        return self.granted(body["user"], body["client"])

    def renew(self, _request: web.Request, _body: dict[str, Any]) -> web.Response:
        return reply(self.lease())

    def release(self, _request: web.Request, _body: dict[str, Any]) -> web.Response:
        return web.Response(status=204)

    def addon(self, request: web.Request, _body: dict[str, Any]) -> web.Response:
        return reply({"product": request.path.rsplit("/", 1)[1], "user": "ana"})


def reply(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgpack.packb(body), content_type="application/msgpack")


def problem(status: int, code: str, **fields: Any) -> Answer:
    """Answer with a problem."""

    async def answer() -> web.Response:
        return reply({"type": "about:blank", "title": code, "status": status, "code": code, **fields}, status)

    return answer


def raw(status: int, body: bytes, **headers: str) -> Answer:
    """Answer with anything."""

    async def answer() -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return answer


def after(seconds: float, answer: Callable[[], web.Response]) -> Answer:
    """Answer late."""

    async def late() -> web.Response:
        await asyncio.sleep(seconds)
        return answer()

    return late


async def never() -> web.Response:
    """Do not answer."""
    await asyncio.sleep(3_600)
    raise AssertionError


@asynccontextmanager
async def serving(ttl_ms: int = 2_000, renew_after_ms: int = 200):
    """Serve a script on a free port."""
    script = Scripted(ttl_ms, renew_after_ms)
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", script.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    script.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield script
    finally:
        await runner.cleanup()
