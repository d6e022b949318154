"""The keys that make and check receipts, as they lie in SQL: sealed under the secret file.

Decides the sealing: AES-256-GCM under a key drawn from the secret by HKDF, bound to the key's id, so that a
database alone forges nothing and rows cannot be swapped.  The newest key that is not retired signs; retired ones
verify for as long as the caller asks.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts.tokens import random_id
from seatd.database.schema import receipt_keys

KEY_BYTES: Final = 32
SECRET_BYTES_MIN: Final = 32
_NONCE_BYTES: Final = 12
_RING: Final = "ring"


class WrongSecretError(Exception):
    """The secret file is not the one under which the database's receipt keys were sealed."""


@dataclass(frozen=True, slots=True)
class ReceiptKeys:
    """The key that signs, and all that verify, by id; the bytes are never shown."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)


async def load(connection: AsyncConnection, secret: bytes, *, retired_after_ms: int) -> ReceiptKeys | None:
    """Load the keys that verify: those in use, and those retired after an instant.  None: no key signs yet.

    Raises `WrongSecretError`.
    """
    query = (
        select(receipt_keys)
        .where(or_(receipt_keys.c.retired_ms.is_(None), receipt_keys.c.retired_ms > retired_after_ms))
        .order_by(receipt_keys.c.created_ms, receipt_keys.c.kid)
    )
    rows = (await connection.execute(query)).all()
    signing = [row.kid for row in rows if row.retired_ms is None]
    if not signing:
        return None
    return ReceiptKeys(signing[-1], {row.kid: _opened(row.kid, row.sealed, secret) for row in rows})


async def make(connection: AsyncConnection, secret: bytes, now_ms: int) -> str:
    """Make a key, which signs from now on, and give its id."""
    kid = random_id("r_", 12)
    await connection.execute(
        insert(receipt_keys).values(
            kid=kid, sealed=_sealed(kid, token_bytes(KEY_BYTES), secret), created_ms=now_ms
        )
    )
    return kid


def _sealing(secret: bytes) -> AESGCM:
    if len(secret) < SECRET_BYTES_MIN:
        raise ValueError(f"the secret must hold at least {SECRET_BYTES_MIN} bytes")
    return AESGCM(HKDF(SHA256(), 32, salt=None, info=b"seatd receipt keys").derive(secret))


def _sealed(kid: str, key: bytes, secret: bytes) -> bytes:
    nonce = token_bytes(_NONCE_BYTES)
    return nonce + _sealing(secret).encrypt(nonce, key, kid.encode())


def _opened(kid: str, sealed: bytes, secret: bytes) -> bytes:
    try:
        return _sealing(secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], kid.encode())
    except InvalidTag:
        raise WrongSecretError(f"receipt key {kid} was sealed under another secret") from None


def seal_ring(ring: ReceiptKeys, secret: bytes) -> bytes:
    """Seal the keys as one value, to be kept where a seatd finds them while SQL is away."""
    content = json.dumps([ring.current, {kid: key.hex() for kid, key in ring.keys.items()}])
    return _sealed(_RING, content.encode(), secret)


def open_ring(sealed: bytes, secret: bytes) -> ReceiptKeys:
    """Open what `seal_ring` sealed; raises `WrongSecretError`."""
    current, keys = json.loads(_opened(_RING, sealed, secret))
    return ReceiptKeys(current, {kid: bytes.fromhex(key) for kid, key in keys.items()})
