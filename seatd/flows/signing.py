"""The key that signs the manifests of closed months.

Drawn from the receipt key that signs now, as proof keys are, under another purpose: one succession of keys serves all, and none of
them tells anything of the others.  A manifest holds the public key; its id (RFC 7638) is in the audit log and in the
month's answer, for whoever verifies to compare.
"""

from base64 import urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from seatd.billing.verify_bundle import canonical, thumbprint
from seatd.seats.receipts import Keyring


class Signer:
    """Signs manifests; `kid` names its key."""

    def __init__(self, keyring: Keyring) -> None:
        """Draw the key from the one that signs receipts now."""
        drawn = HKDF(SHA256(), 32, salt=None, info=b"seatd month key")
        self._key = Ed25519PrivateKey.from_private_bytes(drawn.derive(keyring.keys[keyring.signing]))
        self._x = _text(self._key.public_key().public_bytes_raw())
        self.kid = thumbprint(self._x)

    def sign(self, signed: dict[str, Any]) -> bytes:
        """Write a manifest: what is signed, and the signature over its one JSON text."""
        value = _text(self._key.sign(canonical(signed)))
        signature = {"alg": "Ed25519", "kid": self.kid, "x": self._x, "value": value}
        return canonical({"signed": signed, "signature": signature})


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
