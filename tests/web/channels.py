"""A channel as a client sees it: raw frames over aiohttp's WebSocket, nothing of the SDK."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgpack

SUBPROTOCOL = "seatd.v1"


class Line:
    """One socket; pushes are kept apart from answers, which may come in any order."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.pushes: list[dict[str, Any]] = []
        self._answers: dict[Any, dict[str, Any]] = {}
        self._ids = itertools.count(1)

    async def send(self, op: str, **fields: Any) -> int:
        """Send a frame; returns its id."""
        frame_id = next(self._ids)
        await self.socket.send_bytes(msgpack.packb({"id": frame_id, "op": op, **fields}))
        return frame_id

    async def message(self, wait_s: float = 10) -> dict[str, Any]:
        """The next message, which must be a frame."""
        got = await self.socket.receive(timeout=wait_s)
        assert got.type is aiohttp.WSMsgType.BINARY, got
        said: dict[str, Any] = msgpack.unpackb(got.data)
        return said

    async def answer(self, frame_id: Any, wait_s: float = 10) -> dict[str, Any]:
        """The answer to a frame."""
        while frame_id not in self._answers:
            said = await self.message(wait_s)
            if "push" in said:
                self.pushes.append(said)
            else:
                assert said["id"] not in self._answers
                self._answers[said["id"]] = said
        return self._answers.pop(frame_id)

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a frame and wait for its answer."""
        return await self.answer(await self.send(op, **fields))

    async def ok(self, op: str, **fields: Any) -> Any:
        """The answer's content, which must be one of success."""
        answer = await self.ask(op, **fields)
        assert "ok" in answer, answer
        return answer["ok"]

    async def refused(self, op: str, **fields: Any) -> dict[str, Any]:
        """The answer's problem."""
        answer = await self.ask(op, **fields)
        assert "error" in answer, answer
        problem: dict[str, Any] = answer["error"]
        assert {"type", "title", "status", "code", "detail"} <= problem.keys()
        return problem

    async def push(self, wait_s: float = 10) -> dict[str, Any]:
        """The next push."""
        if self.pushes:
            return self.pushes.pop(0)
        said = await self.message(wait_s)
        assert "push" in said, said
        return said

    async def closed(self, wait_s: float = 10) -> int | None:
        """Wait until the other end closes, past whatever it still says; the code that it gives."""
        async with asyncio.timeout(wait_s):
            while True:
                got = await self.socket.receive()
                if got.type is aiohttp.WSMsgType.BINARY:
                    said = msgpack.unpackb(got.data)
                    if "push" in said:
                        self.pushes.append(said)
                    else:
                        self._answers[said["id"]] = said
                elif got.type in (
                    aiohttp.WSMsgType.CLOSE,
                    aiohttp.WSMsgType.CLOSED,
                    aiohttp.WSMsgType.ERROR,
                ):
                    return self.socket.close_code


@asynccontextmanager
async def lines(url: str, key: str | None, count: int = 1, **options: Any) -> AsyncIterator[list[Line]]:
    """Open so many sockets."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        opened = [
            await session.ws_connect(f"{url}/v1/channel", protocols=(SUBPROTOCOL,), **options)
            for _ in range(count)
        ]
        try:
            yield [Line(each) for each in opened]
        finally:
            await asyncio.gather(*(each.close() for each in opened), return_exceptions=True)


@asynccontextmanager
async def line(url: str, key: str | None, **options: Any) -> AsyncIterator[Line]:
    """Open a socket."""
    async with lines(url, key, **options) as (only,):
        yield only
