"""The socket under a channel: reads messages as they come, writes without waiting, closes by the book.

Decides when a socket is not read from (turns, a slow other end, whatever its channel says), when it is dropped, and how it is
closed.  What a message means is the channel's business.
"""

import asyncio
import time
from typing import Final

from seatd.telemetry import log
from seatd.web import websocket
from seatd.web.frames import CLOSE_TEXT, FRAME_MAX
from seatd.web.websocket import BINARY, CLOSE, PING, TEXT, BrokenError

UNSENT_MAX: Final = 1024 * 1024
"""Bytes that a socket's other end has not taken: beyond, it is dropped; beyond a quarter, it is not read from."""
SLOW_S: Final = 10.0
PAUSE_S: Final = 0.02
TURN_MAX: Final = 32
"""Messages that a socket may have taken before others have their turn."""
CLOSE_S: Final = 2.0
"""How long the other end may take to answer a close."""


class Stream:
    """One socket; the connection's protocol feeds it (`feed_data`, `feed_eof`)."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.heard_s = time.monotonic()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport = transport
        self._incoming = websocket.Incoming(FRAME_MAX)
        self._held_back = False
        self._slow_s = 0.0
        self.closing = False

    # -- what the channel says --------------------------------------------------------------------

    def take(self, raw: bytes) -> None:
        """Take a message."""
        raise NotImplementedError

    def crowded(self) -> bool:
        """Tell whether the socket is not to be read from now."""
        raise NotImplementedError

    def left(self) -> None:
        """Hear that the socket is over; called once."""
        raise NotImplementedError

    # -- reading ----------------------------------------------------------------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes in; what the connection's protocol wants to hear is that it goes on."""
        self.heard_s = time.monotonic()
        self._incoming.feed(data)
        if not self._held_back:
            self._read()
        return False, b""

    def feed_eof(self) -> None:
        """Hear that the connection is lost."""
        if not self.over.done():
            self.over.set_result(None)
            self.left()

    def _read(self) -> None:
        turn = 0
        try:
            while (message := self._incoming.next()) is not None:
                self._heard(*message)
                turn += 1
                if turn >= TURN_MAX or self._crowded():
                    self._hold_back(0.0 if turn >= TURN_MAX else PAUSE_S)
                    return
        except BrokenError as error:
            self.end(error.code, str(error))

    def _heard(self, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            self._answer_close(payload)
        elif self.closing:
            return  # whoever was told to go may still have been speaking
        elif opcode == BINARY:
            self.take(payload)
        elif opcode == PING:
            self.send(websocket.frame(websocket.PONG, payload))
        elif opcode == TEXT:
            self.end(CLOSE_TEXT, "frames are binary")

    def _crowded(self) -> bool:
        return self._unsent > UNSENT_MAX // 4 or self.crowded()

    @property
    def _unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def _hold_back(self, seconds: float) -> None:
        """Read no more, and look again soon."""
        if self._transport.is_closing():
            return
        if not self._held_back:
            self._held_back = True
            self._slow_s = 0.0
            self._transport.pause_reading()
        asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Read on where there is room; drop the socket where its other end does not take its answers."""
        if self._transport.is_closing():
            return
        self.heard_s = time.monotonic()  # it may well have said something
        if not self._crowded():
            self._held_back = False
            self._transport.resume_reading()
            self._read()
            return
        self._slow_s = self._slow_s + PAUSE_S if self._unsent > UNSENT_MAX // 4 else 0.0
        if self._slow_s > SLOW_S:
            self._drop_slow()
        else:
            self._hold_back(PAUSE_S)

    # -- writing ----------------------------------------------------------------------------------

    def send(self, message: bytes) -> None:
        """Send a whole message; never waits.  An other end that takes nothing is dropped.

        The event loop gathers what is written in one turn, and sends it at its end.
        """
        transport = self._transport
        if self.closing or transport.is_closing():
            return
        transport.write(message)
        if transport.get_write_buffer_size() > UNSENT_MAX:
            self._drop_slow()

    def _drop_slow(self) -> None:
        log.info("channel dropped", why="slow")
        self.abort()

    # -- the end ----------------------------------------------------------------------------------

    def end(self, code: int, why: str) -> None:
        """Close, saying why; the other end has a moment to answer."""
        if self.closing:
            return
        self.send(websocket.closing(code, why))
        self.closing = True
        asyncio.get_running_loop().call_later(CLOSE_S, self._transport.close)

    def _answer_close(self, payload: bytes) -> None:
        if not self.closing:
            code = websocket.code_of(payload)
            self.send(websocket.frame(CLOSE, b"" if code == 1005 else payload[:2]))
            self.closing = True
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()
