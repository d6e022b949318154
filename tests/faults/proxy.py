"""A proxy between two ends: it delays what is sent, cuts connections, and drops replies after the execution.

What was delayed is delivered even when who sent it has gone: as a network does that lost only the way back.  It knows
nothing of what it carries; `watch` may look at what comes by before it is passed on.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 16
Address = Path | tuple[str, int]
"""A unix socket, or host and port."""


@dataclass
class Mood:
    """How bad the network is: chances a chunk, and seconds."""

    slow: float = 0.0
    slow_s: tuple[float, float] = (0.01, 0.3)
    late: float = 0.0
    late_s: tuple[float, float] = (1.0, 2.5)
    cut: float = 0.0
    reply_lost: float = 0.0


CALM = Mood()


class Proxy:
    """Listens at one address and passes on to another; `mood` may be changed while it runs."""

    def __init__(self, upstream: Address, rng: random.Random, listen: Path | None = None) -> None:
        self.upstream = upstream
        self.mood = CALM
        self.watch: Callable[[bytes, str], None] = lambda _chunk, _way: None
        self._rng = rng
        self._path = listen
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen: at the socket that was named, or at a port that is free."""
        if self._path:
            self._server = await asyncio.start_unix_server(self._serve, str(self._path))
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    @property
    def address(self) -> tuple[str, int]:
        assert self._server
        host, port = self._server.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def stop(self) -> None:
        """Cut everything and listen no more."""
        if self._server:
            self._server.close()
        for task in [*self._carrying]:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._carrying.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await _connect(self.upstream)
            back = asyncio.create_task(self._replies(far_reader, writer))
            self._carrying.add(back)
            back.add_done_callback(self._carrying.discard)
            try:
                await self._requests(reader, far)
            finally:
                back.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._carrying.discard(task)
            _abort(writer)
            if far:
                _abort(far)

    async def _requests(self, reader: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            self.watch(chunk, "request")
            if self._rng.random() < self.mood.cut:
                return
            await self._delay()
            far.write(chunk)
            await far.drain()
        await asyncio.sleep(0.05)  # who has gone may have sent something: let it be read

    async def _replies(self, far: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await far.read(CHUNK):
                self.watch(chunk, "reply")
                if self._rng.random() < self.mood.reply_lost:
                    break
                writer.write(chunk)
                await writer.drain()
        _abort(writer)

    async def _delay(self) -> None:
        if self._rng.random() < self.mood.late:
            await asyncio.sleep(self._rng.uniform(*self.mood.late_s))
        elif self._rng.random() < self.mood.slow:
            await asyncio.sleep(self._rng.uniform(*self.mood.slow_s))


async def _connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(address, Path):
        return await asyncio.open_unix_connection(str(address))
    return await asyncio.open_connection(*address)


def _abort(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        writer.transport.abort()
