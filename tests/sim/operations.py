"""What is asked of a store node, and what it knows: the vocabulary that a real store can be driven with as well.

An operation goes to the script of its verb (acquire, renew, release, revoke, project, sweep, open); `again` adds
events once more and `close` ends an epoch whose clock stepped.  `State` is what is lost when a store is lost.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from seatd.model import Policy
from seatd.seats.receipts import Receipt
from tests.sim.rules import Seat, Tombstone

Answer = list[Any]
Event = tuple[Any, ...]


class Acquire(NamedTuple):
    tenant: str
    user: str
    client: str
    request: str
    takeover: bool
    lease: str


class Renew(NamedTuple):
    tenant: str
    receipt: Receipt


class Release(NamedTuple):
    """`buried_in`: the epoch that SQL told together with the tombstone; 0 where none could be written."""

    tenant: str
    receipt: Receipt
    buried_in: int


class Revoke(NamedTuple):
    """A real store looks the start up itself; there `start` is the one that was buried, or 0."""

    tenant: str
    user: str
    lease: str
    start: int
    force: bool
    epoch: int


class Project(NamedTuple):
    tenant: str
    policy: Policy
    epoch: int


class Sweep(NamedTuple):
    tenant: str


class Open(NamedTuple):
    """`tenants`: how long each one that existed learns."""

    vacancy: str
    epoch: int
    tenants: dict[str, int]
    tombstones: tuple[Tombstone, ...]


class Close(NamedTuple):
    """That epoch; of a real store, any before it."""

    epoch: int


class Again(NamedTuple):
    """Events with their epochs; a real store is given them as it packed them."""

    events: tuple[Any, ...]


class Look(NamedTuple):
    """A real store only: which epoch stands, and whether it was opened on this store."""


class OpenSeen(NamedTuple):
    """A real store only: an epoch opened unless another was since `seen` was."""

    seen: int
    epoch: int


class Reachable(NamedTuple):
    """A real store only: asked every second, so that a loss is noticed before somebody comes."""


class TakeAway(NamedTuple):
    """A real store only: end the named seat of a user; `start` is the one that was buried, or 0."""

    tenant: str
    user: str
    start: int
    epoch: int
    force: bool = False


@dataclass
class Tenant:
    """All that a node knows of a tenant."""

    policy: Policy | None = None
    seats: dict[str, Seat] = field(default_factory=dict)
    dead: dict[Tombstone, int] = field(default_factory=dict)  # -> when to forget it
    requests: dict[tuple[str, str, str], tuple[str, int]] = field(default_factory=dict)
    learn_until: int = 0

    def copy(self) -> "Tenant":
        return Tenant(self.policy, dict(self.seats), dict(self.dead), dict(self.requests), self.learn_until)


@dataclass
class State:
    """What is lost when a store is lost."""

    pair: tuple[str, ...] = ()
    epoch: int = 0
    seq: int = 0
    hwm: int = 0
    vacancy: str = ""
    tenants: dict[str, Tenant] = field(default_factory=dict)
    stream: list[tuple[int, int, int, Event]] = field(
        default_factory=list
    )  # epoch, seq, event's epoch, event

    def copy(self) -> "State":
        tenants = {name: tenant.copy() for name, tenant in self.tenants.items()}
        return State(self.pair, self.epoch, self.seq, self.hwm, self.vacancy, tenants, list(self.stream))
