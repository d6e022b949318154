"""A minimal WebSocket client of the channel: raw frames of RFC 6455, MessagePack maps in them.

Masks with the key 0, which leaves the bytes as they are: the server unmasks all the same.  One frame under way at a time
unless more are sent; pushes are counted and not obeyed.
"""

import asyncio
import base64
import os
from collections.abc import Callable
from struct import pack, unpack_from
from typing import Any, cast

import msgspec

from bench.http1 import Answered

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_PING, _PONG, _CLOSE = 9, 10, 8


class ChannelConnection(asyncio.Protocol):
    """One socket of the channel under a key; await `opened` before anything is sent."""

    def __init__(self, host: str, key: str) -> None:
        self._host = host
        self._key = key
        self._buffer = bytearray()
        self._under_way: dict[int, Answered] = {}
        self._next = 0
        self._refused = False
        self.pushes = 0
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self.idle: Callable[[ChannelConnection], None] = lambda _: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shake hands."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods alone
        nonce = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET /v1/channel HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self._key}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Protocol: seatd.v1\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Count what was under way as broken."""
        self.transport = None
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("the handshake was refused"))
        for number in [*self._under_way]:
            self._finish(number, "broken", None)

    @property
    def alive(self) -> bool:
        """Tell whether it can be sent on."""
        return self.transport is not None

    def acquire(self, body: dict[str, Any], answered: Answered) -> None:
        """Ask for a seat."""
        self._send({"op": "acquire", **body}, answered)

    def renew(self, lease: str, receipt: str, answered: Answered) -> None:
        """Ask for more time."""
        self._send({"op": "renew", "lease": lease, "receipt": receipt}, answered)

    def renew_many(self, leases: list[tuple[str, str]], answered: Answered) -> None:
        """Ask for more time on many leases at once, as a gateway does."""
        self._send({"op": "renew", "leases": leases}, answered)

    def release(self, lease: str, receipt: str, answered: Answered) -> None:
        """Give a seat back."""
        self._send({"op": "release", "lease": lease, "receipt": receipt}, answered)

    def _send(self, body: dict[str, Any], answered: Answered) -> None:
        self._next += 1
        self._under_way[self._next] = answered
        if self.transport is None:
            self._finish(self._next, "broken", None)
            return
        self._frame(2, _encode({"id": self._next, **body}))

    def _frame(self, opcode: int, payload: bytes) -> None:
        length = len(payload)
        if length < 126:
            head = pack("!BB", 0x80 | opcode, 0x80 | length)
        elif length < 65_536:
            head = pack("!BBH", 0x80 | opcode, 0xFE, length)
        else:
            head = pack("!BBQ", 0x80 | opcode, 0xFF, length)
        if self.transport is not None:
            self.transport.write(b"%b\0\0\0\0%b" % (head, payload))

    def data_received(self, data: bytes) -> None:
        """Take what came: the end of the handshake, then frames, whole or in pieces."""
        if self._refused:
            return
        self._buffer += data
        if not self.opened.done():
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._buffer.startswith(b"HTTP/1.1 101"):
                self._refused = True
                self.opened.set_exception(ConnectionError(bytes(self._buffer[:400]).decode(errors="replace")))
                return
            del self._buffer[: end + 4]
            self.opened.set_result(None)
        self._frames()

    def _frames(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:
            length, begin = buffer[at + 1] & 0x7F, at + 2
            if length == 126:
                if len(buffer) - at < 4:
                    break
                length, begin = unpack_from("!H", buffer, begin)[0], at + 4
            elif length == 127:
                if len(buffer) - at < 10:
                    break
                length, begin = unpack_from("!Q", buffer, begin)[0], at + 10
            if len(buffer) < begin + length:
                break
            self._take(buffer[at] & 0xF, bytes(buffer[begin : begin + length]))
            at = begin + length
        del buffer[:at]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self._frame(_PONG, payload)
        elif opcode == _CLOSE and self.transport is not None:
            self.transport.close()
        elif opcode == 2:
            message = _decode(payload)
            if "push" in message:
                self.pushes += 1
                return
            error = message.get("error")
            self._finish(message["id"], "ok" if error is None else error["code"], message.get("ok"))

    def _finish(self, number: int, code: str, body: Any) -> None:
        answered = self._under_way.pop(number, None)
        if answered is not None:
            answered(code, body)
            self.idle(self)
