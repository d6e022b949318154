"""The private line between the parent and one worker: each asks the other, over a socket pair that nobody else has.

MessagePack, each message behind its length.  When one end dies the other hears the end of the stream, and that is all that
is needed to know it.  What is asked, and what it means, is not decided here.
"""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgpack

from seatd.model import Refusal
from seatd.telemetry import log

MESSAGE_MAX: Final = 32 * 1024 * 1024
UNDER_WAY_MAX: Final = 10_000
_LENGTH: Final = 4

Handler = Callable[..., Awaitable[Any]]


class LinkLostError(Exception):
    """The other end has gone; what was asked may have been done."""


class Link:
    """One end of the line: call `serve` once, then ask."""

    def __init__(self, end: socket.socket, handlers: Mapping[str, Handler]) -> None:
        self._end = end
        self._handlers = handlers
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._doing: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._open = asyncio.Event()

    async def ask(self, name: str, *arguments: Any) -> Any:
        """Ask the other end; raises the `Refusal` that it answers with, `LinkLostError` where it has gone."""
        await self._open.wait()
        if self._writer is None or len(self._asked) >= UNDER_WAY_MAX:
            raise LinkLostError(name)
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send(["ask", number, name, *arguments])
            return await answer
        finally:
            self._asked.pop(number, None)

    async def serve(self) -> None:
        """Answer what the other end asks, until it has gone."""
        reader, self._writer = await asyncio.open_connection(sock=self._end)
        self._open.set()
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(_LENGTH), "big")
                if length > MESSAGE_MAX:
                    return
                self._heard(msgpack.unpackb(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            self._writer.close()
            self._writer = None
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(LinkLostError("the other end has gone"))

    def _heard(self, message: list[Any]) -> None:
        kind, number, *rest = message
        if kind == "ask":
            task = asyncio.create_task(self._do(number, *rest))
            self._doing.add(task)
            task.add_done_callback(self._doing.discard)
            return
        answer = self._asked.get(number)
        if answer is None or answer.done():
            return
        if kind == "ok":
            answer.set_result(rest[0])
        else:
            code, detail, fields = rest
            answer.set_exception(Refusal(code, detail, **fields))

    async def _do(self, number: int, name: str, *arguments: Any) -> None:
        try:
            said = ["ok", number, await self._handlers[name](*arguments)]
        except Refusal as refusal:
            said = ["no", number, refusal.code, refusal.detail, refusal.fields]
        except Exception:  # noqa: BLE001 - who asked gets an answer, and we the trace
            log.exception("asked for and failed", name=name)
            said = ["no", number, "internal", "", {}]
        with contextlib.suppress(LinkLostError):
            await self._send(said)

    async def _send(self, message: list[Any]) -> None:
        if self._writer is None:
            raise LinkLostError("the other end has gone")
        packed = msgpack.packb(message)
        self._writer.write(len(packed).to_bytes(_LENGTH, "big") + packed)
        try:
            await self._writer.drain()
        except OSError as error:
            raise LinkLostError(str(error)) from None
