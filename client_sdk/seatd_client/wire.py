"""What goes over the wire: requests made into bytes, replies read and checked.  Pure.

Decides method, path, headers and body of each request, and what a reply must look like to be
believed.  Nothing here sends, waits or knows a clock; `transport` does the first two.  Fields of a
reply that are unknown here are ignored, so that a newer server serves an older client.
"""

from __future__ import annotations

import contextlib
import enum
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgpack

from seatd_client.errors import InvalidReply, SeatError, of_problem

VERSION = "0.1.0"
"""This SDK's version, as told to servers in User-Agent."""

REPLY_BYTES_MAX = 262_144
"""How much of a reply is read; a longer one is nobody's we know."""


class Encoding(enum.Enum):
    """How bodies are written; seatd speaks both on every client route."""

    MSGPACK = "application/msgpack"
    JSON = "application/json"

    def pack(self, body: Mapping[str, Any]) -> bytes:
        """Write a map, its fields in the order given."""
        if self is Encoding.MSGPACK:
            packed: bytes = msgpack.packb(dict(body), use_bin_type=True)
            return packed
        return json.dumps(dict(body), separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class Acquire:
    """A wish for a seat: who, on which client, and how.

    `addons` None asks for all that the user is named for.  `request_id` makes sending it twice
    harmless.  `wait_ms` lets the server keep the request open until a seat falls free, and `place` is
    the ticket of one's turn in that line.  `takeover` moves the user's seat from another client.
    `proof` asks for one, a JWT that others can verify.  `labels` are for reports.
    """

    user: str
    client: str
    request_id: str | None = None
    addons: Sequence[str] | None = None
    wait_ms: int | None = None
    place: str | None = field(default=None, repr=False)
    takeover: bool = False
    proof: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """List the fields to send; those left at their default are left out."""
        body: dict[str, Any] = {"user": self.user, "client": self.client}
        if self.request_id is not None:
            body["request_id"] = self.request_id
        if self.addons is not None:
            body["addons"] = list(self.addons)
        if self.wait_ms is not None:
            body["wait_ms"] = self.wait_ms
        if self.place is not None:
            body["place"] = self.place
        if self.takeover:
            body["takeover"] = True
        if self.proof:
            body["proof"] = True
        if self.labels:
            body["labels"] = dict(self.labels)
        return body


@dataclass(frozen=True)
class Request:
    """One HTTP request, ready to send; `path` is relative to the server's URL."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Reply:
    """One HTTP reply: its status, its whole body, and what its Retry-After header said."""

    status: int
    body: bytes = b""
    retry_after: str | None = None


@dataclass(frozen=True)
class Renewal:
    """What every grant and renewal says of a lease: instants `*_ms` are the server's, UTC."""

    lease: str
    expires_ms: int
    ttl_ms: int
    renew_after_ms: int
    receipt: str = field(repr=False)


@dataclass(frozen=True)
class Grant(Renewal):
    """A seat, as granted."""

    tenant: str = ""
    user: str = ""
    client: str = ""
    tariff: str = ""
    addons: tuple[str, ...] = ()
    started_ms: int = 0
    proof: str | None = field(default=None, repr=False)


class Writer:
    """Makes requests under one key, in one encoding."""

    def __init__(self, key: str, encoding: Encoding = Encoding.MSGPACK) -> None:
        """Write under `key`; raises `ValueError` where it cannot stand in a header."""
        if not _KEY.match(key):
            raise ValueError("a key is one word of printable ASCII characters")
        self._key = key
        self._encoding = encoding

    def acquire(self, wish: Acquire) -> Request:
        """Ask for a seat."""
        return self._request("POST", "/v1/leases", wish.body())

    def renew(self, lease: str, receipt: str) -> Request:
        """Ask for more time on a lease."""
        return self._request("POST", f"/v1/leases/{quote(lease, safe='')}/renew", {"receipt": receipt})

    def release(self, lease: str, receipt: str) -> Request:
        """Give a lease back."""
        return self._request(
            "DELETE", f"/v1/leases/{quote(lease, safe='')}", headers={"Seat-Receipt": receipt}
        )

    def about(self) -> Request:
        """Ask what the server can."""
        return self._request("GET", "/v1")

    def channel(self) -> Request:
        """Ask for a channel; what makes it an upgrade is added by who opens it."""
        return self._request("GET", "/v1/channel")

    def addon(self, lease: str, product: str) -> Request:
        """Ask whether the lease's holder may use an add-on."""
        return self._request("GET", f"/v1/leases/{quote(lease, safe='')}/addons/{quote(product, safe='')}")

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Request:
        stated = {
            "Authorization": f"Bearer {self._key}",
            "Accept": self._encoding.value,
            "User-Agent": f"seatd-client/{VERSION}",
            **(headers or {}),
        }
        if body is None:
            return Request(method, path, stated)
        stated["Content-Type"] = self._encoding.value
        return Request(method, path, stated, self._encoding.pack(body))


def read_grant(reply: Reply, wish: Acquire) -> Grant:
    """Read the answer to an acquire; raises the problem's `SeatError`, or `InvalidReply`."""
    return grant_of(_members(reply, 200, 201), wish)


def grant_of(members: Mapping[str, Any], wish: Acquire) -> Grant:
    """Read a grant's members; raises `InvalidReply` where they are not by contract."""
    grant = Grant(
        **_renewal(members),
        tenant=_text(members, "tenant"),
        user=_text(members, "user"),
        client=_text(members, "client"),
        tariff=_text(members, "tariff"),
        addons=_texts(members, "addons"),
        started_ms=_integer(members, "started_ms"),
        proof=_text(members, "proof") if wish.proof else None,
    )
    if (grant.user, grant.client) != (wish.user, wish.client):
        raise InvalidReply("the grant is for another user or client")
    return grant


def read_renewal(reply: Reply, lease: str) -> Renewal:
    """Read the answer to a renewal of `lease`; raises the problem's `SeatError`, or `InvalidReply`."""
    return renewal_of(_members(reply, 200), lease)


def renewal_of(members: Mapping[str, Any], lease: str) -> Renewal:
    """Read a renewal's members; raises `InvalidReply` where they are not by contract."""
    renewal = Renewal(**_renewal(members))
    if renewal.lease != lease:
        raise InvalidReply("the renewal is of another lease")
    return renewal


def read_release(reply: Reply) -> None:
    """Read the answer to a release; raises the problem's `SeatError`, or `InvalidReply`."""
    if reply.status != 204:
        raise read_refusal(reply)


def read_addon(reply: Reply, product: str) -> None:
    """Read the yes to an add-on; raises `AddonNotNamed` for the no, or another `SeatError`."""
    if _text(_members(reply, 200), "product") != product:
        raise InvalidReply("the answer is for another product")


def read_about(reply: Reply) -> frozenset[str]:
    """Read the features that the server lists; raises the problem's `SeatError`, or `InvalidReply`."""
    return frozenset(_texts(_members(reply, 200), "features"))


def read_refusal(reply: Reply) -> SeatError:
    """Read why a request was refused: the problem's `SeatError`, or what the status says."""
    members = None
    with contextlib.suppress(InvalidReply):  # the status alone has to say it
        members = decode(reply.body)
    known = members if isinstance(members, dict) else {}
    return of_problem(reply.status, known, _retry_after_ms(reply.retry_after))


def decode(body: bytes) -> Any:
    """Read a body of either encoding; raises `InvalidReply` where it is neither.

    The first byte decides, not the header: a JSON object opens with a brace, which no MessagePack
    map does, and a proxy in between may have said anything about the type.
    """
    try:
        if body.lstrip()[:1] == b"{":
            return json.loads(body)
        return msgpack.unpackb(body, raw=False)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise InvalidReply("the body is neither MessagePack nor JSON") from error


_KEY = re.compile(r"^[!-~]+\Z", re.ASCII)


def _members(reply: Reply, *statuses: int) -> Mapping[str, Any]:
    if reply.status not in statuses:
        raise read_refusal(reply)
    members = decode(reply.body)
    if not isinstance(members, dict):
        raise InvalidReply("the body is no map")
    return members


def _retry_after_ms(header: str | None) -> int | None:
    # The other form, a date, would need a clock to read; seatd sends seconds.
    if header is None or not re.match(r"^\d{1,9}\Z", header.strip(), re.ASCII):
        return None
    return int(header) * 1000


def _renewal(members: Mapping[str, Any]) -> dict[str, Any]:
    renewal: dict[str, Any] = {
        "lease": _text(members, "lease"),
        "expires_ms": _integer(members, "expires_ms"),
        "ttl_ms": _integer(members, "ttl_ms"),
        "renew_after_ms": _integer(members, "renew_after_ms"),
        "receipt": _text(members, "receipt"),
    }
    if not _KEY.match(renewal["receipt"]):
        raise InvalidReply("receipt: cannot stand in a header")
    if not renewal["ttl_ms"]:
        raise InvalidReply("ttl_ms: a lease without time")
    return renewal


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidReply(f"{name}: a text is missing")
    return value


def _texts(members: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = members.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InvalidReply(f"{name}: a list of texts is missing")
    return tuple(value)


def _integer(members: Mapping[str, Any], name: str) -> int:
    value = members.get(name)
    if type(value) is not int or value < 0:
        raise InvalidReply(f"{name}: a count of milliseconds is missing")
    return value
