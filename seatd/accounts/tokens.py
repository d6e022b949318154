"""What a bearer key looks like, and what is kept of it (pure, but for the dice).

`sc.<tenant>.<secret>` opens the client routes of a tenant, `st.<tenant>.<secret>` its own administration,
`sa.<secret>` all administration, `sb.<secret>` billing; the secret is 256 random bits in base64url.  Only the
SHA-256 of the whole text is ever kept.
"""

import re
import secrets
from hashlib import sha256
from typing import Final, NamedTuple

from seatd.model import Scope, is_id

MARKS: Final = {
    Scope.CLIENT: "sc",
    Scope.TENANT_ADMIN: "st",
    Scope.ADMIN: "sa",
    Scope.BILLING: "sb",
}
_SCOPES: Final = {mark: scope for scope, mark in MARKS.items()}
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyz234567" * 8
"""For each byte the character of its lowest five bits."""
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_OF_TENANT: Final = frozenset({Scope.CLIENT, Scope.TENANT_ADMIN})


class Claim(NamedTuple):
    """What a key's text says it is; whether that is true is for its digest to tell."""

    scope: Scope
    tenant: str | None


def belongs_to_tenant(scope: Scope) -> bool:
    """Tell whether keys of `scope` name a tenant."""
    return scope in _OF_TENANT


def make(scope: Scope, tenant: str | None) -> str:
    """Make the text of a new key."""
    parts = [MARKS[scope], tenant, secrets.token_urlsafe(32)]
    return ".".join(part for part in parts if part is not None)


def read(token: str) -> Claim | None:
    """Read what `token` says it is; None where it is no key of ours."""
    mark, _, rest = token.partition(".")
    tenant, _, secret = rest.rpartition(".")  # a tenant's id may hold dots, a secret never
    scope = _SCOPES.get(mark)
    if scope is None or _SECRET.fullmatch(secret) is None:
        return None
    if scope not in _OF_TENANT:
        return Claim(scope, None) if rest == secret else None
    return Claim(scope, tenant) if is_id(tenant) else None


def digest(token: str) -> str:
    """Give what is kept of a key: the SHA-256 of its text, in hex."""
    return sha256(token.encode()).hexdigest()


def random_id(prefix: str, characters: int) -> str:
    """Draw an id: `prefix`, then that many characters of `a-z2-7` (5 bits each)."""
    return prefix + secrets.token_bytes(characters).translate(_LETTERS).decode()
