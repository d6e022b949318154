"""The keys that make and check receipts, as they lie in SQL: sealed under the secret file.

Decides the sealing: AES-256-GCM under a key drawn from the secret by HKDF, bound to the key's id, so that a
database alone forges nothing and rows cannot be swapped.  Decides the order of succession, too: the oldest key that
is not retired signs.  A rotation makes a key and says from which instant the one before it is retired; every
seatd has loaded the new key when it begins to sign.  A retired one verifies for as long as a lease can still
run on it (`OVERLAP_MS`), and then is worth nothing.

Proofs (JWT) have no keys of their own: theirs are drawn from these (`seatd.seats.proofs`).
"""

import json
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts.tokens import random_id
from seatd.database.schema import receipt_keys
from seatd.model import TTL_MS_MAX

KEY_BYTES: Final = 32
SECRET_BYTES_MIN: Final = 32
OVERLAP_MS: Final = TTL_MS_MAX + 300_000
"""How long a retired key verifies: the longest lease, and a margin for clocks that differ."""
KEYS_MAX: Final = 16
"""How many keys may verify at once."""
_NONCE_BYTES: Final = 12
_RING: Final = "ring"


class WrongSecretError(Exception):
    """The secret file is not the one under which the database's receipt keys were sealed."""


@dataclass(frozen=True, slots=True)
class ReceiptKey:
    """One key; from `retired_ms` on (None: not decided) it signs nothing."""

    kid: str
    secret: bytes = field(repr=False)
    retired_ms: int | None = None

    def signs(self, at_ms: int) -> bool:
        """Tell whether the key may sign at an instant."""
        return self.retired_ms is None or at_ms < self.retired_ms

    def verifies(self, at_ms: int) -> bool:
        """Tell whether what the key signed is worth anything at an instant."""
        return self.retired_ms is None or at_ms < self.retired_ms + OVERLAP_MS


@dataclass(frozen=True, slots=True)
class ReceiptKeys:
    """The keys in the order of their making, the newest of them not retired; none at all before they are loaded."""

    keys: tuple[ReceiptKey, ...]

    def knows(self, other: "ReceiptKeys") -> bool:
        """Tell whether these are as new as others: the newest of those is among them."""
        return other.keys[-1].kid in {key.kid for key in self.keys}

    def signing(self, at_ms: int) -> str:
        """Name the key that signs at an instant: the oldest that is not retired."""
        return next((key.kid for key in self.keys if key.signs(at_ms)), self.keys[-1].kid)

    def verifying(self, at_ms: int) -> dict[str, bytes]:
        """Give the keys that verify at an instant, by id."""
        return {key.kid: key.secret for key in self.keys if key.verifies(at_ms)}


async def load(connection: AsyncConnection, secret: bytes, *, at_ms: int) -> ReceiptKeys | None:
    """Load the keys that verify at an instant.  None: there is none that is not retired.

    Raises `WrongSecretError`, and `ValueError` where `secret` is too short.
    """
    verifies = or_(receipt_keys.c.retired_ms.is_(None), receipt_keys.c.retired_ms > at_ms - OVERLAP_MS)
    query = select(receipt_keys).where(verifies).order_by(receipt_keys.c.created_ms, receipt_keys.c.kid)
    rows = (await connection.execute(query)).all()
    if not any(row.retired_ms is None for row in rows):
        return None
    return ReceiptKeys(
        tuple(ReceiptKey(row.kid, _opened(row.kid, row.sealed, secret), row.retired_ms) for row in rows)
    )


async def make(connection: AsyncConnection, secret: bytes, now_ms: int) -> str:
    """Make a key, the newest, and give its id; it signs when those before it are retired."""
    kid = random_id("r_", 12)
    newest = (await connection.execute(select(func.max(receipt_keys.c.created_ms)))).scalar_one()
    # Of two seatds one's clock may be behind: the order of making is the order in which keys sign.
    created_ms = now_ms if newest is None else max(now_ms, newest + 1)
    sealed = _sealed(kid, token_bytes(KEY_BYTES), secret)
    await connection.execute(insert(receipt_keys).values(kid=kid, sealed=sealed, created_ms=created_ms))
    return kid


async def retire(connection: AsyncConnection, from_ms: int) -> None:
    """Let every key that stands sign nothing from an instant on, also one that was to be retired later."""
    standing = or_(receipt_keys.c.retired_ms.is_(None), receipt_keys.c.retired_ms > from_ms)
    await connection.execute(update(receipt_keys).where(standing).values(retired_ms=from_ms))


def _sealing(secret: bytes) -> AESGCM:
    if len(secret) < SECRET_BYTES_MIN:
        raise ValueError(f"the secret must hold at least {SECRET_BYTES_MIN} bytes")
    return AESGCM(HKDF(SHA256(), 32, salt=None, info=b"seatd receipt keys").derive(secret))


def _sealed(kid: str, key: bytes, secret: bytes) -> bytes:
    nonce = token_bytes(_NONCE_BYTES)
    return nonce + _sealing(secret).encrypt(nonce, key, kid.encode())


def _opened(kid: str, sealed: bytes, secret: bytes) -> bytes:
    sealing = _sealing(secret)
    try:
        return sealing.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], kid.encode())
    except (InvalidTag, ValueError):  # the latter where it is too short to be sealed at all
        raise WrongSecretError(f"receipt key {kid} was sealed under another secret") from None


def seal_ring(ring: ReceiptKeys, secret: bytes) -> bytes:
    """Seal the keys as one value, to be kept where a seatd finds them while SQL is away."""
    content = json.dumps([(key.kid, key.secret.hex(), key.retired_ms) for key in ring.keys])
    return _sealed(_RING, content.encode(), secret)


def open_ring(sealed: bytes, secret: bytes) -> ReceiptKeys:
    """Open what `seal_ring` sealed; raises `WrongSecretError`."""
    rows = json.loads(_opened(_RING, sealed, secret))
    return ReceiptKeys(
        tuple(ReceiptKey(kid, bytes.fromhex(key), retired_ms) for kid, key, retired_ms in rows)
    )
