"""The server's end of a WebSocket (RFC 6455): messages out of bytes, frames into bytes.  Sans-IO.

Written for what goes over a channel: whole binary messages, mostly one a read, without extensions.  Everything else that the
standard allows is read as well, what it forbids ends the connection, and a message is bounded.  What a message means is not
decided here.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from struct import pack
from typing import Final

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

PROTOCOL_ERROR: Final = 1002
TOO_BIG: Final = 1009
_CONTINUED: Final = 0
_CONTROLS: Final = frozenset({CLOSE, PING, PONG})
_STARTS: Final = frozenset({TEXT, BINARY})
_CONTROL_MAX: Final = 125
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_UNMASKED: Final = bytes(4)


class BrokenError(Exception):
    """The other end broke the protocol; `code` is what the connection is closed with."""

    def __init__(self, code: int, why: str) -> None:
        self.code = code
        super().__init__(why)


def accepted(headers: Mapping[str, str]) -> bytes | None:
    """Tell the answer to a handshake's key; None where the request is no handshake of version 13."""
    tokens = [each.strip().lower() for each in headers.get("Connection", "").split(",")]
    if "upgrade" not in tokens or headers.get("Upgrade", "").strip().lower() != "websocket":
        return None
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        whole = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        whole = False
    if not whole or headers.get("Sec-WebSocket-Version") != "13":
        return None
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())


def handshake(accept: bytes, protocol: str) -> bytes:
    """Write the answer that opens the WebSocket."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: %b\r\n\r\n"
    ) % (accept, protocol.encode())


class Incoming:
    """Reads messages out of what a client sends; one longer than `message_max` bytes breaks the protocol."""

    __slots__ = ("_at", "_data", "_max", "_opcode", "_parts", "_size")

    def __init__(self, message_max: int) -> None:
        self._max = message_max
        self._data = b""
        self._at = 0
        self._parts: list[bytes] = []
        self._opcode = 0
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take bytes in; call `next` until it gives None."""
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    def next(self) -> tuple[int, bytes] | None:
        """Give the next message as (opcode, payload), None where none is whole yet; raises `BrokenError`."""
        while True:
            frame = self._frame()
            if frame is None:
                return None
            final, opcode, payload = frame
            if opcode in _CONTROLS:
                return opcode, payload
            if final and opcode:
                return opcode, payload
            if opcode:
                self._opcode = opcode
            self._parts.append(payload)
            self._size += len(payload)
            if final:
                whole, self._parts, self._size = b"".join(self._parts), [], 0
                return self._opcode, whole

    def _frame(self) -> tuple[bool, int, bytes] | None:
        data, at = self._data, self._at
        have = len(data) - at
        if have < 2:
            return None
        first, second = data[at], data[at + 1]
        self._check(first, second)
        length, head = second & 0x7F, 6
        if length == 126:
            head = 8
        elif length == 127:
            head = 14
        if have < head:
            return None
        if head > 6:
            length = int.from_bytes(data[at + 2 : at + head - 4], "big")
        if length + self._size > self._max:
            raise BrokenError(TOO_BIG, "message too big")
        end = at + head + length
        if len(data) < end:
            return None
        self._at = end
        payload = data[at + head : end]
        mask = data[at + head - 4 : at + head]
        return bool(first & 0x80), first & 0x0F, payload if mask == _UNMASKED else unmasked(mask, payload)

    def _check(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            raise BrokenError(PROTOCOL_ERROR, "no extension was agreed on")
        if not second & 0x80:
            raise BrokenError(PROTOCOL_ERROR, "a client's frames are masked")
        if opcode in _CONTROLS:
            if not first & 0x80 or second & 0x7F > _CONTROL_MAX:
                raise BrokenError(PROTOCOL_ERROR, "a control frame is short and whole")
        elif opcode in _STARTS:
            if self._parts:
                raise BrokenError(PROTOCOL_ERROR, "the message before is not whole")
        elif opcode != _CONTINUED or not self._parts:
            raise BrokenError(PROTOCOL_ERROR, "no such frame is expected")


def unmasked(mask: bytes, payload: bytes) -> bytes:
    """Take the mask off a payload."""
    length = len(payload)
    over = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(over, "little")).to_bytes(length, "little")


def frame(opcode: int, payload: bytes) -> bytes:
    """Make one whole frame of a server: final, unmasked."""
    length = len(payload)
    if length < 126:
        return pack("!BB", 0x80 | opcode, length) + payload
    if length < 65_536:
        return pack("!BBH", 0x80 | opcode, 126, length) + payload
    return pack("!BBQ", 0x80 | opcode, 127, length) + payload


def closing(code: int, why: str) -> bytes:
    """Make a close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") + why.encode()[: _CONTROL_MAX - 2])


def code_of(payload: bytes) -> int:
    """Read the code of a close frame; 1005 where it has none, raises `BrokenError` where it may not be sent."""
    if not payload:
        return 1005
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise BrokenError(PROTOCOL_ERROR, "no such close code")
    return code
