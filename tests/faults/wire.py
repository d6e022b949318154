"""One HTTP connection of a client, by hand: a request is sent once, and what became of it is known or is not.

A client library would pool, retry and time out in ways of its own, and what was executed how often could no longer be
told.  Nothing is decided here about seats.
"""

import asyncio
import contextlib
import json
from typing import Any

WITHIN_S = 1.6
"""seatd answers within a second, whatever is away."""


class NotSentError(Exception):
    """There was nobody to send it to: it was not executed and never will be."""


class NoAnswerError(Exception):
    """It was sent, and no answer came: it may have been executed, or may yet be."""


class Connection:
    """A connection that is kept alive, and opened again after anything went wrong."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, headers: dict[str, str], body: Any = None, within_s: float = WITHIN_S
    ) -> tuple[int, Any]:
        """Send one request and read its answer: status and decoded body."""
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: seatd", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(content)}", *(f"{name}: {text}" for name, text in headers.items())]
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await self._open()
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
                return await self._answer(reader)
        except BaseException as error:
            self.close()
            if isinstance(error, (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, ValueError)):
                raise NoAnswerError(repr(error)) from error
            raise

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._streams[0].at_eof() or self._streams[1].is_closing():
            self.close()
            try:
                self._streams = await asyncio.open_connection(*self._address)
            except OSError as error:
                raise NotSentError(str(error)) from error
        return self._streams

    @staticmethod
    async def _answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
        content = await reader.readexactly(int(fields.get("content-length", 0)))
        return int(head[0].split(" ", 2)[1]), json.loads(content) if content else None

    def close(self) -> None:
        """Close it as a process that dies would."""
        if self._streams is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._streams[1].transport.abort()
        self._streams = None
