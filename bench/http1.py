"""A minimal HTTP/1.1 client: one connection, one request under way, bodies in MessagePack.

Reads no more of an answer than the measurement needs, so that the generator costs little beside the server: the status,
the length, the body.  Whatever it does not understand ends the connection, and the request counts as `broken`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec

MSGPACK = "application/msgpack"

Answered = Callable[[str, dict[str, Any] | None], None]
"""Told what came: `ok`, or the code of a problem, or `broken`; and the decoded body, if any."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class HttpConnection(asyncio.Protocol):
    """One keep-alive connection under a key."""

    def __init__(self, host: str, key: str) -> None:
        fixed = f"Host: {host}\r\nAuthorization: Bearer {key}\r\nAccept: {MSGPACK}\r\n"
        self._fixed = fixed.encode()
        self._typed = f"{fixed}Content-Type: {MSGPACK}\r\nContent-Length: ".encode()
        self._buffer = b""
        self._answered: Answered | None = None
        self.transport: asyncio.Transport | None = None
        self.idle: Callable[[HttpConnection], None] = lambda _: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods alone

    def connection_lost(self, _: Exception | None) -> None:
        """Count what was under way as broken."""
        self.transport = None
        self._finish("broken", None)

    @property
    def alive(self) -> bool:
        """Tell whether it can be sent on."""
        return self.transport is not None

    def acquire(self, body: dict[str, Any], answered: Answered) -> None:
        """Ask for a seat."""
        self._send(b"POST /v1/leases HTTP/1.1\r\n", body, answered)

    def renew(self, lease: str, receipt: str, answered: Answered) -> None:
        """Ask for more time."""
        self._send(b"POST /v1/leases/%b/renew HTTP/1.1\r\n" % lease.encode(), {"receipt": receipt}, answered)

    def release(self, lease: str, receipt: str, answered: Answered) -> None:
        """Give a seat back."""
        head = f"DELETE /v1/leases/{lease} HTTP/1.1\r\nSeat-Receipt: {receipt}\r\n"
        self._write(head.encode() + self._fixed + b"\r\n", answered)

    def _send(self, head: bytes, body: dict[str, Any], answered: Answered) -> None:
        packed = _encode(body)
        self._write(b"%b%b%d\r\n\r\n%b" % (head, self._typed, len(packed), packed), answered)

    def _write(self, request: bytes, answered: Answered) -> None:
        self._answered = answered
        if self.transport is None:
            self._finish("broken", None)
        else:
            self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take what came; an answer may come in pieces."""
        data = self._buffer + data if self._buffer else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = data
            return
        head = data[:end]
        begin = head.find(b"Content-Length: ")
        length = int(head[begin + 16 :].split(b"\r\n", 1)[0]) if begin >= 0 else 0
        if len(data) < end + 4 + length:
            self._buffer = data
            return
        self._buffer = b""
        body = _decode(data[end + 4 : end + 4 + length]) if length else None
        ok = head[9:10] == b"2"
        self._finish("ok" if ok else str((body or {}).get("code", head[9:12].decode())), body)

    def _finish(self, code: str, body: dict[str, Any] | None) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(code, body)
            self.idle(self)
