"""The plain requests that clients send all day, read from their bytes, and their answers written: sans-IO.

Decides which requests are plain enough: one whole request of HTTP/1.1 for one of three routes, its length told by
Content-Length, nothing in it that could be read in two ways.  Whatever else comes is left to the HTTP library.  A head that
repeats one of the last few is not read again.  What a request leads to is not decided here.
"""

import re
import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

from seatd.model import Refusal
from seatd.seats.model import Caller
from seatd.web.client import BODY_MAX, caller_of_key
from seatd.web.codec import MSGPACK, encode, wants_msgpack_by
from seatd.web.problems import headers_of, problem

HEAD_MAX: Final = 4_096
REMEMBERED_MAX: Final = 1_024
HEADS_MAX: Final = 4
"""Heads that a connection remembers: those of acquires, renewals and releases, as long as their bodies are now."""
HEADERS_MAX: Final = 32
NAMES_MAX: Final = 512
BUSY_MAX: Final = 4_096

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_TARGET: Final = re.compile(rb"(POST|DELETE) /v1/leases(?:/([A-Za-z0-9._~\-]{1,128})(/renew)?)? HTTP/1\.1\Z")
_RECEIPT: Final = re.compile(rb"\r\nSeat-Receipt: ([A-Za-z0-9_\-]*)(?=\r\n)", re.IGNORECASE)
_PRINTED: Final = re.compile(rb"[\x20-\x7e\t\r\n]*\Z")
_READ: Final = frozenset(
    {b"host", b"authorization", b"accept", b"content-type", b"content-length", b"seat-receipt"}
)
_LEFT: Final = frozenset(
    {b"transfer-encoding", b"expect", b"upgrade", b"content-encoding", b"connection", b"te"}
)
"""Headers whose meaning is the library's business; `Connection: keep-alive` says what holds anyway."""
_names: dict[bytes, bytes] = {}


class Head(NamedTuple):
    """What the headers of a plain request say; `refusal` where its key could open nothing."""

    length: int
    content_type: bytes
    msgpack: bool
    caller: Caller | None
    refusal: Refusal | None
    receipt: str | None


class Request(NamedTuple):
    """A plain request: `op` is `acquire`, `renew` or `release`."""

    op: str
    lease: str
    head: Head
    body: bytes


class Extent(NamedTuple):
    """How much of the stream the request takes that begins the data; the request where it is plain and whole."""

    length: int
    request: Request | None


class Reader:
    """Reads the requests of one connection; remembers the last few heads that may come again."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}

    def read(self, data: bytes) -> Extent | None:
        """Read the request that begins `data`; None where its end cannot be told beyond doubt."""
        end = data.find(b"\r\n\r\n", 0, HEAD_MAX)
        line_end = data.find(b"\r\n", 0, HEAD_MAX)
        if end < 0:
            return None
        raw = data[line_end : end + 2]
        head = self._head(raw)
        if head is None:
            return None
        total = end + 4 + head.length
        line = data[:line_end]
        if len(data) != total or head.length > BODY_MAX or b"\n" in line or b"\r" in line:
            return Extent(total, None)
        return Extent(total, _request_of(line, head, data[end + 4 :]))

    def _head(self, raw: bytes) -> Head | None:
        """Read headers; a release's differ from each other in their receipt alone."""
        known = self._heads.get(raw)
        if known is not None:
            return known
        released = _RECEIPT.search(raw)
        if released is None:
            return self._read_head(raw)
        bare = raw[: released.start()] + raw[released.end() :]
        head = self._heads.get(bare) or self._read_head(bare)
        if head is None or head.receipt is not None:
            return None
        return Head(*head[:-1], released[1].decode())

    def _read_head(self, raw: bytes) -> Head | None:
        head = _head_of(raw)
        if head is not None and head.receipt is None and len(raw) <= REMEMBERED_MAX:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            self._heads[raw] = head
        return head


def _request_of(line: bytes, head: Head, body: bytes) -> Request | None:
    target = _TARGET.match(line)
    if target is None:
        return None
    method, lease, renew = target.groups()
    if lease is None:
        op = "acquire" if method == b"POST" else ""
    elif method == b"POST":
        op = "renew" if renew else ""
    else:
        op = "" if renew or body else "release"
    if not op or (op != "release" and head.content_type not in (b"application/json", b"application/msgpack")):
        return None
    return Request(op, (lease or b"").decode(), head, body)


def _head_of(raw: bytes) -> Head | None:
    """Read headers, from the end of the request line on; None where they are not plain."""
    lines = raw[2:-2].split(b"\r\n")
    breaks = len(lines) + 1
    if (
        len(lines) > HEADERS_MAX
        or raw.count(b"\n") != breaks
        or raw.count(b"\r") != breaks
        or not _PRINTED.match(raw)
    ):
        return None
    found: dict[bytes, bytes] = {}
    for each in lines:
        name, colon, value = each.partition(b":")
        known = _names.get(name) or _known(name)
        if not colon or not known:
            return None
        if known in _READ:
            if known in found:
                return None
            found[known] = value.strip(b" \t")
        elif known in _LEFT and not (known == b"connection" and value.strip(b" \t").lower() == b"keep-alive"):
            return None
    length = found.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 9 or b"host" not in found:
        return None
    return _said(found, int(length))


def _known(name: bytes) -> bytes:
    """Write a header's name small; empty where it is none."""
    if not _TOKEN.match(name):
        return b""
    small = name.lower()
    if len(_names) < NAMES_MAX:
        _names[name] = small
    return small


def _said(found: dict[bytes, bytes], length: int) -> Head:
    caller, refusal = None, None
    try:
        caller = caller_of_key(found.get(b"authorization", b"").decode())
    except Refusal as refused:
        refusal = refused
    content_type = found.get(b"content-type", b"application/json")
    msgpack = wants_msgpack_by(found.get(b"accept", b"").decode(), content_type.decode())
    receipt = found.get(b"seat-receipt")
    return Head(length, content_type, msgpack, caller, refusal, None if receipt is None else receipt.decode())


# -- answers ------------------------------------------------------------------------------------------

_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_dated: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    global _dated  # noqa: PLW0603 - one second's date for every answer
    now = int(time.time())
    if now != _dated[0]:
        _dated = (now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode())
    return _dated[1]


def answer(status: int, body: bytes, *, msgpack: bool) -> bytes:
    """Write an answer; 204 has no body."""
    if status == 204:
        return _LINES[204] + _date() + b"\r\n"
    kind = b"Content-Type: application/msgpack\r\n" if msgpack else b"Content-Type: application/json\r\n"
    return b"%bContent-Length: %d\r\n%b%b\r\n%b" % (_LINES[status], len(body), kind, _date(), body)


def refused(refusal: Refusal, *, msgpack: bool) -> bytes:
    """Write a refusal as a problem."""
    if refusal.code == "busy":  # there are many when there is no time
        head, body = _busy(refusal.detail, refusal.fields["retry_after_ms"], msgpack)
    else:
        head, body = _written(refusal, msgpack=msgpack)
    return head + _date() + b"\r\n" + body


def _written(refusal: Refusal, *, msgpack: bool) -> tuple[bytes, bytes]:
    body = encode(problem(refusal), msgpack=msgpack)
    kind = MSGPACK if msgpack else "application/problem+json"
    more = "".join(f"{name}: {value}\r\n" for name, value in headers_of(refusal).items())
    head = f"Content-Length: {len(body)}\r\nContent-Type: {kind}\r\n{more}".encode()
    return _LINES[refusal.status] + head, body


@lru_cache(maxsize=BUSY_MAX)
def _busy(detail: str, retry_after_ms: int, msgpack: bool) -> tuple[bytes, bytes]:
    return _written(Refusal("busy", detail, retry_after_ms=retry_after_ms), msgpack=msgpack)
