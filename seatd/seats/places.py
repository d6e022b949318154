"""Places in line: the signed ticket that a refusal carries, so that whoever asks again keeps its turn.

A ticket says when its user joined the line, and until when that is worth something.  It is made and checked as
receipts are (`receipts.py`), of a kind of its own: neither passes for the other.  The instants are the store's;
whether a ticket has run out the scripts decide.
"""

import hashlib
import hmac
from typing import Final, NamedTuple

import msgpack

from seatd.model import Refusal, invalid
from seatd.seats.receipts import KEY_ID_BYTES, MAC_BYTES, Keyring, from_text, to_text

VERSION: Final = 2
PLACE_MAX: Final = 600  # characters: two ids of 128 and the rest fit
VALID_MS: Final = 60_000
_PURPOSE: Final = b"place in line"
_HEAD: Final = 1 + KEY_ID_BYTES + MAC_BYTES


class Place(NamedTuple):
    """A user's turn: `order_ms` is the instant of joining, which nobody else of the tenant has."""

    tenant: str
    user: str
    order_ms: int
    valid_until_ms: int


def _mac(secret: bytes, payload: bytes) -> bytes:
    return hmac.digest(secret, _PURPOSE + payload, hashlib.sha256)[:MAC_BYTES]


def seal(keyring: Keyring, place: Place) -> str:
    """Make the ticket's text, signed with the ring's signing key."""
    payload = msgpack.packb(tuple(place))
    mac = _mac(keyring.keys[keyring.signing], payload)
    return to_text(bytes([VERSION]) + keyring.signing + mac + payload)


def _wrong(reason: str) -> Refusal:
    return invalid("place", reason)


def unseal(keyring: Keyring, text: str, *, tenant: str, user: str) -> Place:
    """Check a ticket that came back from a user of a tenant.

    Raises `Refusal` `invalid_request` where it is malformed, not ours, or another's.
    """
    try:
        raw = from_text(text)
    except ValueError:
        raise _wrong("malformed") from None
    signer, mac, payload = raw[1 : 1 + KEY_ID_BYTES], raw[1 + KEY_ID_BYTES : _HEAD], raw[_HEAD:]
    secret = keyring.keys.get(signer)
    if not raw or raw[0] != VERSION or secret is None or not hmac.compare_digest(mac, _mac(secret, payload)):
        raise _wrong("not ours")
    fields = msgpack.unpackb(payload)
    if len(fields) != len(Place._fields):  # a later version's, made with the same key
        raise _wrong("not ours")
    place = Place(*fields)
    if place.tenant != tenant or place.user != user:
        raise _wrong("not this user's")
    return place
