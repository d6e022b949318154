"""The frames of the channel: MessagePack maps up and down, made and checked.  Pure.

Decides what a frame must look like to be believed; what it leads to is decided in `channel`.  Members
that are unknown here are ignored, so that a newer server serves an older client.

    up     {id, op: "acquire" | "renew" | "release" | "leave", ...}
    down   {id, ok: ...}   {id, error: {problem}}   {push: ..., lease?, reason?, within_ms?, ...}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

import msgpack

from seatd_client import wire
from seatd_client.errors import InvalidReply, SeatError, of_problem

SUBPROTOCOL = "seatd.v1"
"""What the two ends agree on when the WebSocket opens."""

LEASES_MAX = 256
"""How many leases one frame renews at most."""

ID_END = 1 << 53
"""Ids are below this, so that every language can hold one."""


@dataclass(frozen=True)
class Answer:
    """What answers the request `id`: what it gave, or the error that it came to."""

    id: int
    ok: Any = field(default=None, repr=False)
    error: SeatError | None = None


@dataclass(frozen=True)
class Push:
    """What the server says unasked: `granted`, `revoked`, `renew` or `drain`; others are to be ignored.

    What it does not say is None.  `within_ms` is how much time there is to do as it says.
    """

    kind: str
    lease: str | None = None
    reason: str | None = None
    within_ms: int | None = None
    user: str | None = None
    client: str | None = None


Down = Union[Answer, Push]


def acquire(number: int, wish: wire.Acquire) -> bytes:
    """Ask for a seat."""
    return _pack(number, "acquire", wish.body())


def renew(number: int, leases: Sequence[tuple[str, str]]) -> bytes:
    """Ask for more time on leases, each with its receipt; one alone is answered by itself."""
    if len(leases) == 1:
        [(lease, receipt)] = leases
        return _pack(number, "renew", {"lease": lease, "receipt": receipt})
    return _pack(number, "renew", {"leases": [list(one) for one in leases]})


def release(number: int, lease: str, receipt: str) -> bytes:
    """Give a lease back."""
    return _pack(number, "release", {"lease": lease, "receipt": receipt})


def leave(number: int, acquire_number: int) -> bytes:
    """Give up an acquire that waits in line."""
    return _pack(number, "leave", {"of": acquire_number})


def read(frame: bytes) -> Down:
    """Read a frame that came down; raises `InvalidReply` where it is none of the contract."""
    if len(frame) > wire.REPLY_BYTES_MAX:
        raise InvalidReply("the frame is too long")
    try:
        members = msgpack.unpackb(frame, raw=False)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise InvalidReply("the frame is no MessagePack") from error
    if not isinstance(members, dict):
        raise InvalidReply("the frame is no map")
    return _push(members) if "push" in members else _answer(members)


def read_grant(ok: Any, wish: wire.Acquire) -> wire.Grant:
    """Read the answer to an acquire; raises `InvalidReply` where it is not by contract."""
    if not isinstance(ok, dict):
        raise InvalidReply("the grant is no map")
    return wire.grant_of(ok, wish)


def read_renewals(ok: Any, leases: Sequence[str]) -> list[wire.Renewal | SeatError]:
    """Read the answer to a renewal of `leases`, one after the other: what each gave, or its error.

    One that is not by contract is an `InvalidReply` of its own; raises it where the whole is not.
    """
    given = [ok] if len(leases) == 1 and isinstance(ok, dict) else ok
    if not isinstance(given, list) or len(given) != len(leases):
        raise InvalidReply("not as many renewals as leases")
    return [_renewal(one, lease) for one, lease in zip(given, leases)]


def _renewal(given: Any, lease: str) -> wire.Renewal | SeatError:
    if not isinstance(given, dict):
        return InvalidReply("the renewal is no map")
    try:
        return _problem(given["error"]) if "error" in given else wire.renewal_of(given, lease)
    except InvalidReply as error:
        return error


def _pack(number: int, op: str, fields: Mapping[str, Any]) -> bytes:
    packed: bytes = msgpack.packb({"id": number, "op": op, **fields}, use_bin_type=True)
    return packed


def _push(members: Mapping[Any, Any]) -> Push:
    kind = members["push"]
    if not isinstance(kind, str):
        raise InvalidReply("push: a text is missing")
    within_ms = members.get("within_ms")
    texts = {name: _text(members, name) for name in ("lease", "reason", "user", "client")}
    return Push(kind, within_ms=within_ms if type(within_ms) is int and within_ms >= 0 else None, **texts)


def _answer(members: Mapping[Any, Any]) -> Answer:
    number = members.get("id")
    if type(number) is not int or not 0 < number < ID_END:
        raise InvalidReply("id: a number is missing")
    if "error" in members:
        return Answer(number, error=_problem(members["error"]))
    if "ok" not in members:
        raise InvalidReply("neither ok nor error")
    return Answer(number, ok=members["ok"])


def _problem(members: Any) -> SeatError:
    status = members.get("status") if isinstance(members, dict) else None
    if type(status) is not int:
        raise InvalidReply("error: a status is missing")
    return of_problem(status, members)


def _text(members: Mapping[Any, Any], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) and value else None
