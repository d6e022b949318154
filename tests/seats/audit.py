"""The invariants of the design, watched from outside: what clients believe, and what the ledger would hold.

Knows nothing of the scripts or of the oracle: only the operations, the answers and the events.  The clients
here are as stubborn as the rules allow: every answer is heard, a 410 never is, and a client stops only when
its seat expires or just before it sends the release of the lease that it holds.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from seatd.model import Policy

ALLOWED_LOSSES = {
    "released",
    "taken_over",
    "revoked",
    "suspended",
    "tariff_switched",
    "contract_ended",
    "trial_expired",
}
Events = list[tuple[int, tuple[Any, ...]]]


@dataclass
class Belief:
    """What one client of one user believes: that it may work until `until`."""

    lease: str
    start: int
    until: int
    kind: str


@dataclass
class Row:
    """One lease in the ledger."""

    tenant: str
    user: str
    kind: str
    start: int
    end: int | None = None


class Audit:
    """Raises `AssertionError` where an invariant does not hold."""

    def __init__(self) -> None:
        self.beliefs: dict[tuple[str, str, str], Belief] = {}
        self.granted_under: dict[tuple[str, str], int] = {}
        self.rows: dict[str, Row] = {}
        self.largest_cap: dict[str, int] = defaultdict(int)
        self.by_request: dict[tuple[str, ...], tuple[str, int]] = {}
        self.seq = 0
        self.hwm = 0

    # -- I1, I2, I4, I5, I8: one operation at a time ----------------------------------------------

    def believers(self, tenant: str, now: int) -> set[str]:
        """Name the users who believe in a counted seat."""
        return {
            user
            for (t, user, _), belief in self.beliefs.items()
            if t == tenant and belief.until > now and belief.kind != "service"
        }

    def operation(self, verb: str, op: Any, answer: list[Any], policy: Policy | None, now: int) -> None:
        """Watch one operation and its answer; `policy` is the one in force when it was answered."""
        if verb == "project" or policy is None:
            if policy:
                self.largest_cap[policy.tenant] = max(self.largest_cap[policy.tenant], policy.cap)
            return
        before = len(self.believers(policy.tenant, now))
        if answer[0] == "granted":
            self._granted(op, answer, policy, now)
        elif verb == "renew":
            self._renewed(op, answer, now)
        elif verb == "release":
            self._stops(op)
        elif answer[0] == "revoked" and op[4]:
            self._forced(op[0], answer[2])
        after = self.believers(policy.tenant, now)
        # A lowered cap stops new grants alone: who was granted a seat under a higher one may go on.
        caps = [self.granted_under[policy.tenant, user] for user in after]
        assert len(after) <= max(policy.cap, before, *caps, 0), f"I1: {after} believe in {policy.cap} seats"

    def _granted(self, op: Any, answer: list[Any], policy: Policy, now: int) -> None:
        tenant, _, user, client, request, content, takeover = op[:7]
        new, lease, start, expires, _, kind = answer[1:7]
        self.beliefs[tenant, user, client] = Belief(lease, start, expires, kind)
        self.granted_under.setdefault((tenant, user), policy.cap)
        if new and not takeover:
            self.granted_under[tenant, user] = policy.cap
            assert kind in {str(policy.tariff), "service"}, "I8"
        if request:
            key = (tenant, user, client, request, content)
            first, until = self.by_request.get(key, (lease, 0))
            # Remembered until the lease has ended and a ttl more; a ttl is at least 2 s.
            assert first == lease or until + 2_000 <= now, "I5: one request, two leases"
            self.by_request[key] = (lease, expires)

    def _renewed(self, op: Any, answer: list[Any], now: int) -> None:
        tenant, _, lease, user, start, _ = op
        for (t, u, _), belief in self.beliefs.items():
            if (t, u, belief.lease) != (tenant, user, lease):
                continue
            if answer[0] == "renewed":
                belief.start, belief.until = answer[1], max(belief.until, answer[2])
            elif answer[0] == "lease_gone" and belief.start == start and belief.until > now:
                assert answer[1] in ALLOWED_LOSSES, f"I4: an honest holder was told {answer[1]}"

    def _stops(self, op: Any) -> None:
        for (t, u, _), belief in self.beliefs.items():
            if (t, u, belief.lease, belief.start) == (op[0], op[3], op[2], op[4]):
                belief.until = 0

    def _forced(self, tenant: str, user: str) -> None:
        for (t, u, _), belief in self.beliefs.items():
            if (t, u) == (tenant, user):
                belief.until = 0

    def forged(self, tenant: str, user: str) -> None:
        """Forget the user's clients: somebody released with a receipt that they never had."""
        self._forced(tenant, user)

    # -- I6, I7: the stream -----------------------------------------------------------------------

    def stream(self, events: Events, *, seq: int, hwm: int) -> None:
        """Watch what one call added to the stream, and where the counters stand after it."""
        assert hwm >= self.hwm, "I6: time fell"
        self.hwm = hwm
        for number, event in events:
            assert number == self.seq + 1, f"I6: seq {number} after {self.seq}"
            self.seq = number
            self._fold(event)
        assert seq == self.seq, "I6: a seq without its event"

    def _fold(self, event: tuple[Any, ...]) -> None:
        kind, tenant, at = event[:3]
        if kind == "started":
            assert event[3] not in self.rows, "I7: two starts"
            self.rows[event[3]] = Row(tenant, event[4], event[5], at)
        elif kind == "ended":
            row = self.rows[event[3]]
            assert row.end is None, "I7: two ends"
            assert at >= row.start, "I7: ended before it started"
            row.end = at

    def closed(self) -> None:
        """Check the whole ledger, when all has run out: every lease ended, never more open than seats."""
        for lease, row in self.rows.items():
            assert row.end is not None, f"I7: {lease} has no end"
        for tenant, cap in self.largest_cap.items():
            assert self._peak(tenant) <= cap, f"I7: {tenant} had more leases open than it ever had seats"

    def _peak(self, tenant: str) -> int:
        counted = [row for row in self.rows.values() if row.tenant == tenant and row.kind != "service"]
        steps = sorted([(row.start, 1) for row in counted] + [(row.end or 0, -1) for row in counted])
        open_now = peak = 0
        for _, step in steps:  # at one instant the ends come first
            open_now += step
            peak = max(peak, open_now)
        return peak
