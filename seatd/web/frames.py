"""What goes over a channel: frames up, answers and pushes down.  Bytes in, bytes out: no socket, no clock.

A frame is one binary WebSocket message that holds one MessagePack map.  What cannot be told from its bytes alone
(whether a key is valid, a receipt ours) is not decided here.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from seatd.model import Refusal, invalid
from seatd.seats.receipts import RECEIPT_MAX
from seatd.web import websocket
from seatd.web.client import AcquireBody
from seatd.web.codec import misfit
from seatd.web.problems import problem

SUBPROTOCOL: Final = "seatd.v1"
LEASES_MAX: Final = 256
FRAME_MAX: Final = 384 * 1024
"""Bytes of a frame: so many leases with the longest receipts fit."""

CLOSE_TEXT: Final = 1003
CLOSE_DRAINED: Final = 1001
CLOSE_MALFORMED: Final = 4400
CLOSE_KEY: Final = 4401
CLOSE_SLOW: Final = 4408

FrameId = Annotated[int, Meta(ge=0, le=2**53)] | Annotated[str, Meta(min_length=1, max_length=128)]
"""What the caller tells its frames apart by."""
LeaseId = Annotated[str, Meta(min_length=1, max_length=128)]
ReceiptText = Annotated[str, Meta(max_length=RECEIPT_MAX)]


class AcquireFrame(AcquireBody, forbid_unknown_fields=True, tag_field="op", tag="acquire", kw_only=True):
    """A seat is wanted: the fields of an acquire over HTTP."""

    id: FrameId


class RenewFrame(Struct, forbid_unknown_fields=True, tag_field="op", tag="renew", kw_only=True):
    """One lease is renewed, or as many as `leases` names: either `lease` and `receipt`, or `leases`."""

    id: FrameId
    lease: LeaseId | None = None
    receipt: ReceiptText | None = None
    leases: Annotated[list[tuple[LeaseId, ReceiptText]], Meta(max_length=LEASES_MAX)] | None = None

    @property
    def whole(self) -> bool:
        """Whether it says either the one or the other."""
        one = self.lease is not None and self.receipt is not None
        return one is (self.leases is None) and (one or (self.lease is None and self.receipt is None))


class ReleaseFrame(Struct, forbid_unknown_fields=True, tag_field="op", tag="release", kw_only=True):
    """A seat is given back."""

    id: FrameId
    lease: LeaseId
    receipt: ReceiptText


class LeaveFrame(Struct, forbid_unknown_fields=True, tag_field="op", tag="leave", kw_only=True):
    """An acquire that waits in line, sent as the frame `of`, is given up."""

    id: FrameId
    of: FrameId


Frame = AcquireFrame | RenewFrame | ReleaseFrame | LeaveFrame


class _Named(Struct):
    id: FrameId


class MalformedFrameError(Exception):
    """A frame that does not fit; `frame_id` is None where nobody could be answered."""

    def __init__(self, frame_id: int | str | None, refusal: Refusal) -> None:
        self.frame_id = frame_id
        self.refusal = refusal
        super().__init__(refusal.detail)


_frame: Final = msgspec.msgpack.Decoder(Frame)
_named: Final = msgspec.msgpack.Decoder(_Named)
_encode: Final = msgspec.msgpack.Encoder().encode


def decode(raw: bytes) -> Frame:
    """Read a frame; raises `MalformedFrameError`."""
    try:
        frame: Frame = _frame.decode(raw)
    except msgspec.ValidationError as error:
        raise MalformedFrameError(_id_of(raw), misfit(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedFrameError(None, invalid("frame", "is not well-formed MessagePack")) from None
    if isinstance(frame, RenewFrame) and not frame.whole:
        raise MalformedFrameError(frame.id, invalid("leases", "either lease and receipt, or leases"))
    return frame


def _id_of(raw: bytes) -> int | str | None:
    try:
        return _named.decode(raw).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def answer(frame_id: int | str, ok: Any) -> bytes:
    """Write the answer to a frame."""
    return websocket.frame(websocket.BINARY, _encode({"id": frame_id, "ok": ok}))


def refusal(frame_id: int | str, refused: Refusal) -> bytes:
    """Write the refusal of a frame."""
    return websocket.frame(websocket.BINARY, _encode({"id": frame_id, "error": problem(refused)}))


def push(kind: str, **fields: Any) -> bytes:
    """Write a push: `granted`, `revoked`, `renew` or `drain`, with `lease`, `reason`, `within_ms` as it has them."""
    return websocket.frame(websocket.BINARY, _encode({"push": kind, **fields}))
