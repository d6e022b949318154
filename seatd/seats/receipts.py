"""Make and check receipts: what only seatd can issue and a client hands back to renew or release.

A receipt is `base64url(version, key id, mac, payload)`: a truncated HMAC-SHA-256 (RFC 2104, 16 bytes,
RFC 2104 section 5 allows half the hash) over the MessagePack payload.  It hides nothing; it proves that
seatd granted exactly this.  Keys are passed in; this module knows neither SQL nor a clock.
"""

import hashlib
import hmac
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from seatd.model import Refusal

VERSION: Final = 1
MAC_BYTES: Final = 16
KEY_ID_BYTES: Final = 4
RECEIPT_MAX: Final = 1_200  # characters: four ids of 128 and the rest fit
_HEAD: Final = 1 + KEY_ID_BYTES + MAC_BYTES
_VERSION: Final = bytes([VERSION])
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
_PADDING: Final = {0: b"", 1: b"", 2: b"==", 3: b"="}
_LAST: Final = {1: "", 2: _ALPHABET[::16], 3: _ALPHABET[::4]}
_BLOCK: Final = 64
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(tuple[str, str, str, str, int, int, str, int, int]).decode


class Receipt(NamedTuple):
    """What was granted: `start_ms`, `expires_ms` in UTC epoch, `cap` the tenant's at the first grant.

    `version` is that of the policy under which it was made: who ended every lease of a tenant names one, too.
    """

    tenant: str
    user: str
    client: str
    lease: str
    start_ms: int
    expires_ms: int
    kind: str
    cap: int
    version: int = 0


def key_id(name: str) -> bytes:
    """Shorten a key's name to what a receipt carries (4 bytes)."""
    return hashlib.blake2b(name.encode(), digest_size=KEY_ID_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys that make (`signing`) and check (all) receipts: key id (4 bytes) -> secret (32 bytes)."""

    signing: bytes
    keys: Mapping[bytes, bytes]

    @classmethod
    def of(cls, current: str, keys: Mapping[str, bytes]) -> "Keyring":
        """Make a ring of named keys; `current` names the one that signs."""
        return cls(key_id(current), {key_id(name): secret for name, secret in keys.items()})

    def __repr__(self) -> str:
        """Name the keys, never show them."""
        return f"Keyring({len(self.keys)} keys)"


@lru_cache(maxsize=64)
def _begun(secret: bytes) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """Begin the two hashes of RFC 2104, which are the same for every receipt of a key."""
    block = secret.ljust(_BLOCK, b"\0")
    return hashlib.sha256(block.translate(_INNER)), hashlib.sha256(block.translate(_OUTER))


def _mac(secret: bytes, payload: bytes) -> bytes:
    if len(secret) > _BLOCK:
        return hmac.digest(secret, payload, "sha256")[:MAC_BYTES]
    inner, outer = _begun(secret)
    inner, outer = inner.copy(), outer.copy()
    inner.update(payload)
    outer.update(inner.digest())
    return outer.digest()[:MAC_BYTES]


def seal(keyring: Keyring, receipt: Receipt) -> str:
    """Make the receipt's text, signed with the ring's signing key."""
    payload = _pack(tuple(receipt))
    mac = _mac(keyring.keys[keyring.signing], payload)
    return to_text(_VERSION + keyring.signing + mac + payload)


def to_text(raw: bytes) -> str:
    """Write bytes as base64url (RFC 4648, section 5) without padding."""
    return b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=").decode()


def from_text(text: str) -> bytes:
    """Read what `to_text` wrote; raises `ValueError` for every other text."""
    spare = len(text) % 4
    # Base64 has spare bits at its end; only the one text that was issued is the receipt, or the place in line.
    if spare and text[-1] not in _LAST[spare]:
        raise ValueError("not what was written")
    return a2b_base64(text.encode("ascii").translate(_FROM_URL) + _PADDING[spare], strict_mode=True)


def _wrong(reason: str) -> Refusal:
    return Refusal("receipt_invalid", errors=[{"field": "receipt", "reason": reason}])


def unseal(keyring: Keyring, text: str, *, tenant: str, lease: str) -> Receipt:
    """Check a receipt that came back, for a lease of a tenant.

    Raises `Refusal` `receipt_invalid` where it is malformed, not ours, or another tenant's or lease's.
    """
    if not 0 < len(text) <= RECEIPT_MAX:
        raise _wrong("malformed")
    try:
        raw = from_text(text)
    except ValueError:
        raise _wrong("malformed") from None
    signer, mac, payload = raw[1 : 1 + KEY_ID_BYTES], raw[1 + KEY_ID_BYTES : _HEAD], raw[_HEAD:]
    secret = keyring.keys.get(signer)
    if not raw or raw[0] != VERSION or secret is None or not hmac.compare_digest(mac, _mac(secret, payload)):
        raise _wrong("not ours")
    try:
        receipt = Receipt._make(_unpack(payload))
    except msgspec.DecodeError:  # a later version's, made with the same key
        raise _wrong("not ours") from None
    if receipt.tenant != tenant or receipt.lease != lease:
        raise _wrong("not this lease's")
    return receipt
