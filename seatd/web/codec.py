"""Decode what came, encode what goes: JSON and MessagePack, chosen by Content-Type and Accept."""

import re
from typing import Any, Final, Generic, TypeVar

import msgspec
from aiohttp import web

from seatd.model import Refusal, invalid

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
_PATH: Final = re.compile(r" - at `(?:key` in `)?\$\.?([^`]*)`$")
_NAMED: Final = re.compile(r"field `([^`]{1,128})`")

T = TypeVar("T")

_json_encode: Final = msgspec.json.Encoder().encode
_msgpack_encode: Final = msgspec.msgpack.Encoder().encode


def wants_msgpack(request: web.BaseRequest) -> bool:
    """Tell whether the answer is MessagePack: what Accept names, else what the request is written in."""
    return wants_msgpack_by(request.headers.get("Accept", ""), request.content_type)


def wants_msgpack_by(accept: str, content_type: str) -> bool:
    """Tell the same by what Accept and Content-Type say."""
    if MSGPACK in accept:
        return True
    if "json" in accept:
        return False
    return content_type == MSGPACK


def encode(body: Any, *, msgpack: bool) -> bytes:
    """Encode an answer."""
    return _msgpack_encode(body) if msgpack else _json_encode(body)


def respond(request: web.Request, body: Any, status: int = 200) -> web.Response:
    """Answer in the encoding the caller understands."""
    msgpack = wants_msgpack(request)
    return web.Response(
        status=status, body=encode(body, msgpack=msgpack), content_type=MSGPACK if msgpack else JSON
    )


class Body(Generic[T]):
    """Decodes one kind of request body, in either encoding.

    Raises `Refusal`: `unsupported_media_type`, `too_large`, or `invalid_request` with the field and the reason.
    """

    def __init__(self, kind: type[T]) -> None:
        self._json = msgspec.json.Decoder(kind)
        self._msgpack = msgspec.msgpack.Decoder(kind)

    async def read(self, request: web.Request, *, json_only: bool = False) -> T:
        """Read and decode the body of a request."""
        content_type = request.content_type if "Content-Type" in request.headers else JSON
        if content_type != JSON and (json_only or content_type != MSGPACK):
            allowed = JSON if json_only else f"{JSON} or {MSGPACK}"
            raise Refusal("unsupported_media_type", f"The body must be {allowed}.")
        return self.decode(await request.read(), msgpack=content_type == MSGPACK)

    def decode(self, raw: bytes, *, msgpack: bool) -> T:
        """Decode a body that was read."""
        try:
            return self._msgpack.decode(raw) if msgpack else self._json.decode(raw)
        except msgspec.ValidationError as error:
            raise misfit(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise invalid("body", f"is not well-formed {MSGPACK if msgpack else JSON}") from None


def misfit(message: str) -> Refusal:
    """Say which field does not fit, and why; the value itself is not repeated."""
    path = _PATH.search(message)
    named = _NAMED.search(message)
    field = path.group(1) if path and path.group(1) else named.group(1) if named else "body"
    reason = _PATH.sub("", message)
    if "matching regex" in reason:
        reason = "must be 1 to 128 characters of A-Z a-z 0-9 . _ @ : + -"
    elif reason.startswith("Invalid value"):
        reason = "is none of those that are known"
    return invalid(field, reason)
