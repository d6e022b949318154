"""What the oracle knows of a tenant: one lease a user, what is remembered of ended ones, the minute's sample."""

from dataclasses import dataclass, field

from seatd.model import Policy


@dataclass
class Seat:
    """One user's lease; once it has ended, what is left of it: the seat that its client may believe in."""

    lease: str
    client: str
    kind: str
    cap: int
    granted: int
    start: int
    expires: int
    floor: int = 0
    ended: str = ""
    cut: tuple[int, str] | None = None
    requests: dict[str, str] = field(default_factory=dict)


@dataclass
class Sample:
    """The minute that is being measured."""

    at: int
    peak: int
    denied: set[tuple[str, str]] = field(default_factory=set)
    waiting: int = 0


@dataclass
class Stand:
    """Who waits in line: since when (nobody else since then), and until when it stands there."""

    order: int
    until: int
    offered: bool = False


@dataclass
class Tenant:
    """All that is known of one tenant."""

    policy: Policy
    seats: dict[str, Seat] = field(default_factory=dict)
    leases: dict[str, tuple[str, str]] = field(default_factory=dict)  # lease -> user, how it ended or ""
    requests: dict[str, tuple[str, str]] = field(
        default_factory=dict
    )  # request -> content, how its lease ended
    forget: dict[str, int] = field(default_factory=dict)  # lease, request, hold -> when it matters no more
    holds: dict[str, int] = field(default_factory=dict)  # hold of a revoked user -> until when
    sample: Sample | None = None
    use: int = 0
    line: dict[str, Stand] = field(default_factory=dict)
    freed: list[int] = field(default_factory=list)  # when a full tenant's seats fell free of late


def hold_key(user: str) -> str:
    """Name the hold of a revoked user."""
    return f"h {user}"


def request_key(user: str, client: str, request: str) -> str:
    """Name a request: its id is scoped to user and client."""
    return f"q {user} {client} {request}"
