"""One WebSocket to a seatd: opened, read, written, closed.  The shell around `channel`.

Decides who awaits what, and that renewals which come close together share a frame; never what a frame
means, nor which way a request goes (`preferring`).
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from yarl import URL

from seatd_client import frames, wire
from seatd_client.channel import Beat, Channel, ChannelLost, Settled
from seatd_client.errors import ConnectionFailed, InvalidReply, SeatError
from seatd_client.redial import NoChannel
from seatd_client.transport import Ear
from seatd_client.waiting import Clock, Sleep

GATHER_S = 0.01
"""How long a renewal waits for others to share its frame."""

CLOSE_KEY = 4401
"""What a server closes with whose key is not valid any more."""


async def connect(session: aiohttp.ClientSession, url: str, request: wire.Request, clock: Clock) -> Socket:
    """Open a socket; raises `NoChannel` where none is to be had, else what may pass."""
    try:
        ws = await session.ws_connect(
            URL(url + request.path, encoded=True),
            headers=request.headers,
            protocols=(frames.SUBPROTOCOL,),
            autoping=False,
            max_msg_size=wire.REPLY_BYTES_MAX,
        )
    except aiohttp.WSServerHandshakeError as error:
        if error.status in {429, 503}:
            after = error.headers.get("Retry-After") if error.headers else None
            raise wire.read_refusal(wire.Reply(error.status, retry_after=after)) from error
        raise NoChannel(f"refused: status {error.status}") from error
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
        raise ConnectionFailed(f"{type(error).__name__}: {error}") from error
    if ws.protocol != frames.SUBPROTOCOL:
        await ws.close()
        raise NoChannel("the server speaks another protocol")
    return Socket(ws, clock)


class Socket:
    """An open socket.  `run` reads it until it ends; requests raise `ChannelLost` when it does."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, clock: Clock) -> None:
        """Take a socket that has just opened."""
        self._ws = ws
        self._clock = clock
        self._channel = Channel(clock())
        self._awaited: dict[int, asyncio.Future[Any]] = {}
        self._waiting: dict[str | None, int] = {}
        self._gathered: list[tuple[str, str, asyncio.Future[wire.Renewal]]] = []
        self._flushing: set[asyncio.Task[None]] = set()
        self._sleep = Sleep(clock)
        self._over = False

    @property
    def usable(self) -> bool:
        """Tell whether to ask here, rather than elsewhere."""
        return not self._over and not self._ws.closed and self._channel.usable(self._clock())

    @property
    def key_refused(self) -> bool:
        """Tell whether the server closed it because of the key."""
        return self._ws.close_code == CLOSE_KEY

    # What is asked.

    async def acquire(self, wish: wire.Acquire) -> wire.Grant:
        """Ask for a seat."""
        number, frame = self._channel.ask_acquire(self._clock(), wish)
        self._waiting[wish.request_id] = number
        try:
            grant: wire.Grant = await self._ask(number, frame)
        finally:
            if self._waiting.get(wish.request_id) == number:
                del self._waiting[wish.request_id]
        return grant

    async def leave(self, wish: wire.Acquire) -> bool:
        """Give up an acquire that waits in line; returns whether one was under way here."""
        acquire = self._waiting.get(wish.request_id)
        if acquire is None or self._over:
            return False
        number, frame = self._channel.ask_leave(self._clock(), acquire)
        task = asyncio.ensure_future(self._leave(number, frame))
        self._flushing.add(task)
        task.add_done_callback(self._flushing.discard)
        return True

    async def renew(self, lease: str, receipt: str) -> wire.Renewal:
        """Ask for more time, in one frame with others that ask just now."""
        loop = asyncio.get_running_loop()
        if not self._gathered:
            loop.call_later(GATHER_S, self._flush)
        renewed: asyncio.Future[wire.Renewal] = loop.create_future()
        self._gathered.append((lease, receipt, renewed))
        sent_ms = self._clock()
        if len(self._gathered) >= frames.LEASES_MAX:
            self._flush()
        try:
            return await renewed
        except asyncio.CancelledError:
            self._doubt(sent_ms)
            raise

    async def release(self, lease: str, receipt: str) -> None:
        """Give a seat back."""
        await self._ask(*self._channel.ask_release(self._clock(), lease, receipt))

    # What goes on.

    async def run(self, ear: Ear) -> None:
        """Read until the socket ends; `ear` hears what the server says unasked."""
        beating = asyncio.ensure_future(self._beat())
        try:
            while await self._read(ear):
                pass
        finally:
            self._over = True
            beating.cancel()
            self._fail()

    async def close(self) -> None:
        """Close it; whoever awaits an answer gets none."""
        self._over = True
        self._fail()
        await self._ws.close()

    async def finish(self, within_ms: int) -> None:
        """Close it once all is answered, after `within_ms` at the latest."""
        self._flush()
        under_way = {*self._awaited.values(), *self._flushing}
        if under_way and not self._over:
            await asyncio.wait(under_way, timeout=within_ms / 1000)
        await self.close()

    # How.

    async def _read(self, ear: Ear) -> bool:
        message = await self._ws.receive()
        now_ms = self._clock()
        if message.type is aiohttp.WSMsgType.PING:
            self._channel.sound(now_ms)
            await self._ws.pong(message.data)
            return True
        if message.type is aiohttp.WSMsgType.PONG:
            self._channel.sound(now_ms)
            return True
        if message.type is not aiohttp.WSMsgType.BINARY:
            return False
        try:
            heard = self._channel.receive(now_ms, message.data)
        except InvalidReply:
            return False
        for one in heard:
            if isinstance(one, Settled):
                self._settle(one)
            else:
                ear(one)
        return True

    async def _beat(self) -> None:
        while True:
            await self._sleep.until(self._channel.wake_ms())
            beat = self._channel.beat(self._clock())
            if beat is Beat.DEAD:
                await self.close()
                return
            if beat is Beat.PING:
                await self._ws.ping()

    async def _ask(self, number: int, frame: bytes) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._awaited[number] = answer
        try:
            await self._send(frame)
            return await answer
        except asyncio.CancelledError:
            self._channel.give_up(number)
            self._sleep.wake()
            raise
        finally:
            self._awaited.pop(number, None)

    async def _leave(self, number: int, frame: bytes) -> None:
        try:
            await self._ask(number, frame)
        except SeatError:
            return  # whoever left waits for the acquire's own answer, and only for a while

    async def _send(self, frame: bytes) -> None:
        if self._over:
            raise ChannelLost("the channel was lost")
        try:
            await self._ws.send_bytes(frame)
        except (aiohttp.ClientError, ConnectionError, OSError) as error:
            raise ChannelLost(f"{type(error).__name__}: {error}") from error

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        wanted = [one for one in gathered if not one[2].done()]
        if wanted:
            task = asyncio.ensure_future(self._renew(wanted))
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)

    async def _renew(self, wanted: list[tuple[str, str, asyncio.Future[wire.Renewal]]]) -> None:
        number, frame = self._channel.ask_renew(
            self._clock(), [(lease, receipt) for lease, receipt, _ in wanted]
        )
        try:
            results = await self._ask(number, frame)
        except SeatError as error:
            results = [error] * len(wanted)
        for (_, _, renewed), result in zip(wanted, results):
            _resolve(renewed, result)

    def _settle(self, settled: Settled) -> None:
        answer = self._awaited.get(settled.number)
        if answer is not None:
            _resolve(answer, settled.result)

    def _fail(self) -> None:
        for settled in self._channel.lost():
            self._settle(settled)
        gathered, self._gathered = self._gathered, []
        for _, _, renewed in gathered:
            _resolve(renewed, ChannelLost("the channel was lost"))

    def _doubt(self, sent_ms: int) -> None:
        self._channel.doubt(sent_ms)
        self._sleep.wake()


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, SeatError):
        future.set_exception(result)
        future.exception()  # whoever waited may have gone meanwhile
    else:
        future.set_result(result)
