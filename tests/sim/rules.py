"""The design's decisions about a lease, each a method: pure, integers in milliseconds, no state and no clock.

Everything else in the simulator (the store's model, servers, clients, network) carries these out and decides
nothing of its own.  A test that wants to know what a wrong rule does makes a subclass with one method
replaced; no wrong rule may live here.
"""

from collections.abc import Iterable
from typing import NamedTuple

from seatd.model import Policy, Tariff
from seatd.seats.receipts import Receipt

RHO_PERCENT = 1
SINGLE_Q_MS = 500
FOR_EVER = 1 << 60


class Times(NamedTuple):
    """The constants of one deployment: clock offset between nodes, split brain, lock delay."""

    delta_ms: int
    w_ms: int
    q_ms: int


class Tombstone(NamedTuple):
    """A lease that is over, up to a start; where `lease` is empty, all of the user's (of everybody's) of `kind`.

    `before`: whatever the user was granted earlier is over too, on other clients.
    """

    tenant: str
    user: str
    lease: str
    start: int
    reason: str
    kind: str = ""
    before: int = 0

    def names(self, user: str, lease: str, kind: str, start: int) -> bool:
        """Tell whether it means this lease with this start."""
        if self.user == user and start < self.before:
            return True
        if self.lease:
            return self.lease == lease and start <= self.start
        return self.user in {"", user} and start <= self.start and self.kind in {"", kind}


class Seat(NamedTuple):
    """One user's lease as the store keeps it; once it has ended, what is left of it."""

    lease: str
    client: str
    kind: str
    cap: int
    granted: int
    start: int
    expires: int
    floor: int = 0
    ended: str = ""
    confirmed: int = 0  # the epoch in which a receipt or a grant vouched for it
    requests: tuple[str, ...] = ()


BY_THE_HOLDER = frozenset({"released", "taken_over", "expired"})


def forbidden(policy: Policy, user: str, kind: str) -> str:
    """Tell why the policy does not let this user keep a lease of this kind, "" where it does."""
    if policy.suspended_since_ms is not None:
        return "suspended"
    if policy.tariff is None:
        return "contract_ended"
    if policy.tariff != kind:
        return "tariff_switched"
    if policy.tariff is Tariff.AGENT and "agent" not in policy.bindings.get(user, ()):
        return "revoked"
    return ""


class Rules:
    """The right rules."""

    # -- the client ------------------------------------------------------------------------------

    def believed_ms(self, ttl_ms: int) -> int:
        """Tell how long a client believes, on its own clock."""
        return ttl_ms * 100 // (100 + RHO_PERCENT)

    def counted_from(self, sent: int, heard: int) -> int:
        """Tell from which instant on."""
        return sent

    # -- expiry ----------------------------------------------------------------------------------

    def extended(self, stored: int, receipt: int, now: int, ttl_ms: int) -> int:
        """Tell when a renewed or adopted lease expires."""
        return max(stored, receipt, now + ttl_ms)

    def extended_by_acquire(self, stored: int, now: int, ttl_ms: int) -> int:
        """Tell when the lease of a holder who asks again expires."""
        return max(stored, now + ttl_ms)

    def lock_delay_ms(self, delta_ms: int, w_ms: int, nodes: int) -> int:
        """Tell Q."""
        return SINGLE_Q_MS if nodes == 1 else max(w_ms, 2 * delta_ms)

    # -- release and takeover --------------------------------------------------------------------

    def release_acts(self, stored_start: int, start: int) -> bool:
        """Tell whether a release with this start means the lease that stands."""
        return stored_start <= start

    def floor_after_takeover(self, floor: int, expires: int) -> int:
        """Tell until when somebody else of the same user may believe in the seat."""
        return max(floor, expires)

    # -- losing the store ------------------------------------------------------------------------

    def identity(self, run_id: str, replid: str) -> tuple[str, ...]:
        """Tell by what a store is known."""
        return (run_id, replid)

    def window_ms(self, times: Times, lmax_ms: int, ttl_ms: int) -> int:
        """Tell how long a tenant learns."""
        drifted = -(-lmax_ms * (100 + RHO_PERCENT) // 100)
        return drifted + 2 * times.delta_ms + times.w_ms + times.q_ms

    def in_doubt(self, now: int, delta_ms: int, expires: int, *, present: bool) -> bool:
        """Tell whether a receipt's lease may be over by now."""
        return now + delta_ms > expires

    def in_the_way(self, others: Iterable[Seat], epoch: int, now: int, q_ms: int) -> int:
        """Count the other holders that an adoption has to respect."""
        return sum(seat.confirmed == epoch and seat.expires + q_ms > now for seat in others)

    def adoption_limit(self, cap: int, receipt_cap: int, confirmed_caps: Iterable[int]) -> int:
        """Tell how many may be confirmed: who was granted last, under a higher cap, may have come first."""
        return max(cap, receipt_cap, *confirmed_caps)

    def policy_after_opening(self, policy: Policy | None) -> Policy | None:
        """Tell what is left of a restored policy when an epoch opens."""
        return None

    def ahead(self, now: int, expected: int, q_ms: int) -> bool:
        """Tell whether the store's clock stepped forward, or the call was held up: nothing runs until it is known.

        Whether it stepped, the caller knows when it has the answer: no call runs after its answer came.
        """
        return now > expected + q_ms

    # -- tombstones ------------------------------------------------------------------------------

    def buried(self, tombstone: Tombstone) -> bool:
        """Tell whether this end is written to SQL."""
        return True

    def revocation(self, tenant: str, user: str, lease: str, start: int) -> Tombstone:
        """Tell what a revocation ends: the lease, and what its user has left on clients that it took over from."""
        return Tombstone(tenant, user, lease, FOR_EVER, "revoked", before=start)

    def dead(self, tombstones: Iterable[Tombstone], held: Receipt) -> str:
        """Tell why a receipt's lease is over, "" where no tombstone names it."""
        for stone in tombstones:
            if stone.names(held.user, held.lease, held.kind, held.start_ms):
                return stone.reason
        return ""

    # -- between the planes ----------------------------------------------------------------------

    def same_epoch(self, own: int, told: int) -> bool:
        """Tell whether the store takes a word of the account plane that was read in epoch `told`.

        An old primary, and whoever reads SQL before an epoch opened and arrives after, are told apart by this.
        """
        return own == told

    def opens(self, vacancy: str, seen: str) -> bool:
        """Tell whether an opening is meant for the vacancy that stands, or was held up since an earlier one."""
        return vacancy == seen
