"""What is asked of the seat plane and what it answers: frozen, no I/O.

An operation is what one caller wants, addressed to a tenant; an outcome is the scripts' answer.  A
refusal is raised as `seatd.model.Refusal`; what is below is what succeeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

WAIT_MS_MAX: Final = 3_600_000
"""How long a caller may say that it will wait in line."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the tenant that the key names, and the SHA-256 (hex) of the key."""

    tenant: str
    key_hash: str


@dataclass(frozen=True, slots=True)
class Acquire:
    """A seat is wanted for `user` on `client`.

    `addons` is what was asked for by name; None asks for all the user is named for.  `wait_ms` is how long the caller
    waits in line, `place` the ticket of a refusal before, which keeps its turn.
    """

    user: str
    client: str
    request_id: str = ""
    takeover: bool = False
    addons: tuple[str, ...] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    wait_ms: int = 0
    place: str = ""


class Lease(NamedTuple):
    """The right of one user on one client to work until `expires_ms` (UTC epoch).

    `start_ms` is the instant of the holder's latest acquire, `cap` the tenant's when it was granted,
    `receipt` what the client hands back to renew or release.  `created` tells a new lease from an extended one.
    """

    tenant: str
    user: str
    client: str
    lease: str
    start_ms: int
    expires_ms: int
    ttl_ms: int
    renew_after_ms: int
    kind: str
    receipt: str
    addons: tuple[str, ...] = ()
    created: bool = False


@dataclass(frozen=True, slots=True)
class Sitting:
    """One row of who sits: `ending` is empty while the lease lives, else why it ends."""

    user: str
    lease: str
    client: str
    since_ms: int
    expires_ms: int
    kind: str
    ending: str


@dataclass(frozen=True, slots=True)
class Fullness:
    """How full a tenant is: seats in use and the cap that is enforced; unknown tenants are all zero.

    `learns_until_ms` is 0 where the tenant does not learn; `waiting` stand in line.
    """

    known: bool
    in_use: int
    capacity: int
    version: int
    learns_until_ms: int = 0
    waiting: int = 0
