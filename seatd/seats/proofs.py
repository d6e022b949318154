"""Make proofs: JSON Web Tokens which say who holds a seat, for others to verify with public keys alone.

A proof is a JWT (RFC 7519) signed with Ed25519 (`EdDSA`, RFC 8037).  It holds until the expiry that the lease had
when it was made; it cannot be renewed or called back, so it proves a seat as of its making.  Its key is drawn from a
receipt key by HKDF: one succession of keys serves both, and a proof key tells nothing of the receipt key that a client
could use.  Keys are named by their RFC 7638 thumbprint.  Pure: keys and the instant are passed in.
"""

import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwt.algorithms import OKPAlgorithm

from seatd.seats.model import Lease
from seatd.seats.receipts import Keyring

ALGORITHM: Final = "EdDSA"
TYPE: Final = "seatd-proof+jwt"
"""The header `typ` (RFC 8725, section 3.11): no other token of the house can be taken for a proof."""


class Prover:
    """Makes proofs under the signing key of a ring, and tells the public keys of them all."""

    def __init__(self, keyring: Keyring, issuer: str) -> None:
        """Draw the proof keys of `keyring`; `issuer` is what proofs say of where they come from."""
        private = {name: _drawn(secret) for name, secret in keyring.keys.items()}
        self._key = private[keyring.signing]
        self._kid = thumbprint(_public(self._key.public_key()))
        self._issuer = issuer
        self.jwks = {"keys": [_listed(key.public_key()) for key in private.values()]}
        """The public keys as a JWK set (RFC 7517)."""

    def prove(self, lease: Lease, now_ms: int) -> str:
        """Make the proof of a lease that was just granted or extended."""
        claims = {
            "iss": self._issuer,
            "sub": lease.user,
            "tenant": lease.tenant,
            "client": lease.client,
            "lease": lease.lease,
            "tariff": lease.kind,
            "addons": list(lease.addons),
            "iat": now_ms // 1000,
            "exp": lease.expires_ms // 1000,  # rounded down: a proof never outlives its lease
            "jti": secrets.token_urlsafe(16),
        }
        return jwt.encode(claims, self._key, ALGORITHM, headers={"typ": TYPE, "kid": self._kid})


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Give the RFC 7638 thumbprint of an Ed25519 public key."""
    needed = json.dumps({name: jwk[name] for name in ("crv", "kty", "x")}, separators=(",", ":"))
    return urlsafe_b64encode(sha256(needed.encode()).digest()).rstrip(b"=").decode()


def _drawn(secret: bytes) -> Ed25519PrivateKey:
    seed = HKDF(SHA256(), 32, salt=None, info=b"seatd proof key").derive(secret)
    return Ed25519PrivateKey.from_private_bytes(seed)


def _public(key: Ed25519PublicKey) -> dict[str, Any]:
    return dict(OKPAlgorithm.to_jwk(key, as_dict=True))


def _listed(key: Ed25519PublicKey) -> dict[str, Any]:
    jwk = _public(key)
    return {"kid": thumbprint(jwk), "use": "sig", "alg": ALGORITHM} | {n: jwk[n] for n in ("kty", "crv", "x")}
