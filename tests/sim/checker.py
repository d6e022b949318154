"""Whether a history kept the invariants of the design; written from them, not from the rules.

`over_the_cap` is a function of recorded belief alone, so that histories of real processes can be judged by it.
`Watch` looks at every operation as it runs: it keeps a ledger of its own, in host time, of whose lease may still
be believed in, whatever the stores remember.  `History` is what clients saw: invoke, then ok, fail or unknown.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from seatd.model import Policy
from seatd.seats.receipts import Receipt
from seatd.usage.fold import join, known_from
from tests.sim.operations import Event, Open
from tests.sim.rules import FOR_EVER, Tombstone
from tests.sim.sql import usage_event
from tests.sim.store import Node

DIFFERS = "differs from the model"


class Violation(NamedTuple):
    """Which invariant did not hold, when (host ms), and how."""

    invariant: str
    at_ms: int
    what: str


class CapInForce(NamedTuple):
    """A cap under which grants may have been made from `since` to `until` (host ms)."""

    cap: int
    since: int
    until: int


class Stretch(NamedTuple):
    """A user works from `since` to `until`, on a lease granted at `granted` (host ms)."""

    user: str
    since: int
    until: int
    granted: int


def together(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Join what one user believes on several clients: a user counts once."""
    joined: list[Stretch] = []
    for stretch in sorted(stretches):
        last = joined[-1] if joined else None
        if stretch.since >= stretch.until:
            continue
        if last and last.user == stretch.user and stretch.since <= last.until:
            joined[-1] = last._replace(until=max(last.until, stretch.until))
        else:
            joined.append(stretch)
    return joined


def over_the_cap(stretches: Iterable[Stretch], caps: Sequence[CapInForce]) -> list[Violation]:
    """Find instants at which more users believe than a cap in force since their grants allows (I1).

    A sweep over beginnings and ends, O(n log n): the count rises only at a beginning, so only there can it be
    too high; a cap that was lowered since the grant stops nobody.
    """
    changes: list[tuple[int, int, int]] = []  # at, +1 or -1, granted
    for stretch in together(stretches):
        changes += [(stretch.since, 1, stretch.granted), (stretch.until, -1, 0)]
    found, count = [], 0
    for at, step, granted in sorted(changes):  # at one instant the ends come first
        count += step
        if step > 0:
            cap = max((c.cap for c in caps if c.since <= at and c.until >= granted), default=0)
            if count > cap:
                found.append(Violation("I1", at, f"{count} users believe in {cap} seats"))
    return found


@dataclass
class Asked:
    """One request of a client, as the client saw it: `answer` None where it never heard."""

    user: str
    client: str
    verb: str
    op: Any
    invoked: int
    returned: int | None = None
    answer: Any = None

    @property
    def outcome(self) -> str:
        if self.answer is None:
            return "unknown"
        return "ok" if self.answer[0] in {"granted", "renewed", "released"} else "fail"


class History:
    """What clients asked and heard, on one host clock."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.asked: list[Asked] = []

    def invoke(self, client: Any, verb: str, op: Any) -> Asked:
        asked = Asked(client.user, client.name, verb, op, self._clock.now)
        self.asked.append(asked)
        return asked

    def heard(self, asked: Asked, answer: Any) -> None:
        asked.answer = answer
        if answer is not None:
            asked.returned = self._clock.now


class Watch:
    """Watches one history; `violations` lists what it found."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.violations: list[Violation] = []
        self.operations = 0
        self.answers: Counter[tuple[str, str]] = Counter()
        self.beliefs: list[Any] = []
        self.granted_at: dict[str, int] = {}
        self.seat_since: dict[str, int] = {}  # lease -> since when its user has the seat, on whatever client
        self._policies: dict[tuple[str, int], tuple[Policy, int]] = {}  # -> policy, decided at
        self._acknowledged: dict[str, list[tuple[int, int]]] = defaultdict(list)  # tenant -> (version, at)
        self._alive: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)  # user -> lease -> until, host
        self._starts: dict[tuple[str, str], int] = defaultdict(int)
        self._by_request: dict[tuple[str, ...], str] = {}
        self._expires: dict[tuple[str, str], int] = defaultdict(int)
        self._counters: dict[tuple[str, int], tuple[int, int, int]] = {}
        self._opened = 0
        self._over: list[tuple[int, Tombstone]] = []
        self._forced: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._acknowledged_events: dict[tuple[int, Event], tuple[Any, int]] = {}
        self._released: set[tuple[str, int]] = set()
        self._tenant_of: dict[str, str] = {}

    @property
    def now(self) -> int:
        return int(self.world.loop.now)

    def _broken(self, invariant: str, what: str) -> None:
        self.violations.append(Violation(invariant, self.now, what))

    # -- the vendor's decisions -------------------------------------------------------------------

    def decided(self, policy: Policy) -> None:
        self._policies[policy.tenant, policy.version] = (policy, self.now)

    def in_force(self, policy: Policy) -> None:
        self._acknowledged[policy.tenant].append((policy.version, self.now))

    def ended(self, stone: Tombstone) -> None:
        """Note an end by the server that was acknowledged."""
        self._over.append((self.now, stone))

    def forced(self, tenant: str, user: str) -> None:
        self._forced[tenant, user].append(self.now)
        self._alive[tenant, user].clear()

    def acknowledged(self, server: Any, events: list[tuple[int, Event]]) -> None:
        for event in events:
            self._acknowledged_events.setdefault(event, (server, server.life))

    def differs(self, what: str) -> None:
        """Note that a real store answered otherwise than the modelled one."""
        self._broken(DIFFERS, what)

    def probed(self, answer: Any) -> None:
        if answer[0] != "granted":
            self._broken("I3", f"all went home long ago, and a seat is refused: {answer}")

    # -- every operation ---------------------------------------------------------------------------

    def executed(self, node: Node, verb: str, op: Any, answer: Any) -> None:
        self.operations += 1
        self.answers[verb, str(answer[0])] += 1
        self._count_up(node, verb, op, answer)
        if answer[0] == "granted":
            self._granted(node, op, answer)
        elif answer[0] == "no_seat":
            self._refused(node, op, answer)
        elif verb == "renew":
            self._renewal(node, op.receipt, answer)
        elif answer[0] == "released" and answer[1] == 1:
            self._released.add((op.receipt.lease, op.receipt.start_ms))
            self._alive[op.tenant, op.receipt.user].pop(op.receipt.lease, None)
        elif answer[0] == "revoked" and op.force:
            self.forced(op.tenant, op.user)

    def _count_up(self, node: Node, verb: str, op: Any, answer: Any) -> None:
        state, key = node.state, (node.name, node.lineage)
        counters = (state.epoch, state.seq, state.hwm)
        epoch, seq, hwm = self._counters.get(key, (0, 0, 0))
        if counters[0] < epoch or (counters[0] == epoch and counters[1] < seq) or counters[2] < hwm:
            self._broken("I6", f"{counters} after {(epoch, seq, hwm)}")
        self._counters[key] = counters
        if verb == "open" and answer == ["open", op.epoch]:
            if op.epoch < self._opened and isinstance(op, Open):
                self._broken("I6", f"epoch {op.epoch} opened after {self._opened}")
            self._opened = max(self._opened, op.epoch)
        elif answer[0] in {"granted", "renewed"} and state.epoch < self._opened and self._leads(node):
            self._broken("I6", f"served in epoch {state.epoch} after {self._opened} was opened")

    def _leads(self, node: Node) -> bool:
        return bool(node is self.world.primary and node.writes_until == FOR_EVER)

    def _keep_alive(self, node: Node, tenant: str, user: str, lease: str, expires: int) -> None:
        until = self.now + (expires - node.now) * 1_000_000 // node.rate_ppm
        leases = self._alive[tenant, user]
        leases[lease] = max(leases.get(lease, 0), until)
        self._expires[tenant, user] = max(self._expires[tenant, user], expires)

    def _granted(self, node: Node, op: Any, answer: Any) -> None:
        _, new, lease, start, expires, _, kind, _, version = answer
        policy = self._policies[op.tenant, version][0]
        if new:
            self._new_lease(op, lease, kind, policy)
        self._fresh_enough(node, op.tenant, version)
        self._keep_alive(node, op.tenant, op.user, lease, expires)
        self._starts[op.tenant, op.user] = max(self._starts[op.tenant, op.user], start)

    def _new_lease(self, op: Any, lease: str, kind: str, policy: Policy) -> None:
        self.granted_at[lease], self._tenant_of[lease] = self.now, op.tenant
        late = self.now - self.world.times.q_ms
        own = [old for old, until in self._alive[op.tenant, op.user].items() if until > late]
        self.seat_since[lease] = min([self.now, *(self.seat_since[old] for old in own)])
        moved = bool(own)
        if not moved and kind != policy.tariff:
            self._broken("I8", f"a {kind} lease under a {policy.tariff} policy")
        others = [
            (user, leases) for (tenant, user), leases in self._alive.items()
            if tenant == op.tenant and user != op.user and any(until > self.now for until in leases.values())
        ]  # fmt: skip
        if len(others) >= policy.cap and not moved:
            self._broken("I2", f"{op.user} gets one of {policy.cap} seats beside {others}")
        key = (op.tenant, op.user, op.client, op.request)
        first = self._by_request.setdefault(key, lease)
        if first != lease and self._alive[op.tenant, op.user].get(first, 0) > self.now:
            self._broken("I5", f"request {op.request} gave {first} and {lease}")

    def _fresh_enough(self, node: Node, tenant: str, version: int) -> None:
        newest = max((v for v, _ in self._acknowledged[tenant]), default=0)
        if version < newest and node.writes_until == FOR_EVER:
            self._broken("I8", f"granted under policy {version} after {newest} was in force")

    def _refused(self, node: Node, op: Any, answer: Any) -> None:
        late = node.now - self.world.times.q_ms - 2 * self.world.times.delta_ms
        used = sum(t == op.tenant and u != op.user and at > late for (t, u), at in self._expires.items())
        if used < answer[2]:
            self._broken("I3", f"{op.user} refused though {used} of {answer[2]} seats can be in use")

    def _renewal(self, node: Node, held: Receipt, answer: Any) -> None:
        if answer[0] == "renewed":
            stone = self._ended(held)
            if stone and node.writes_until == FOR_EVER:
                self._broken("RF", f"{held.lease} was {stone.reason}, and is renewed")
            if (held.lease, held.start_ms) in self._released and node.writes_until == FOR_EVER:
                self._broken("RF", f"{held.lease} was given back, and is renewed")
            self._keep_alive(node, held.tenant, held.user, held.lease, answer[2])
            return
        lost = answer[0] == "lease_gone" or (answer[0] == "learning" and answer[2] == "limit")
        if lost and self._honest(held) and not self._may_be_lost(held):
            self._broken("I4", f"{held.user} believes in {held.lease} and is told {answer}")

    def _ended(self, held: Receipt) -> Tombstone | None:
        granted = self.granted_at.get(held.lease, 0)
        for at, stone in self._over:
            if (
                granted <= at
                and stone.tenant == held.tenant
                and stone.names(held.user, held.lease, held.kind, held.start_ms)
            ):
                return stone
        return None

    def _honest(self, held: Receipt) -> bool:
        for client in self.world.clients:
            belief = client.user == held.user and client.name == held.client and client.believing()
            if belief:
                return bool(belief.lease == held.lease and belief.start == held.start_ms)
        return False

    def _may_be_lost(self, held: Receipt) -> bool:
        if self._starts[held.tenant, held.user] > held.start_ms:
            return True
        # An old primary may grant for W more what the new one has been told to end.
        granted = self.granted_at.get(held.lease, 0) - self.world.times.w_ms
        return any(
            until >= granted and stone.tenant == held.tenant
            and stone.names(held.user, held.lease, held.kind, held.start_ms)
            for until, stone in self.world.sql.ended
        )  # fmt: skip

    # -- the end -----------------------------------------------------------------------------------

    def caps(self, tenant: str) -> list[CapInForce]:
        """List the caps and when grants may have been made under them."""
        found = []
        history = sorted((v, *self._policies[t, v]) for t, v in self._policies if t == tenant)
        acknowledged = dict(self._acknowledged[tenant])
        for version, policy, decided in history:
            later = [at for v, at in acknowledged.items() if v > version]
            until = min(later) + self.world.times.w_ms if later else FOR_EVER
            found.append(CapInForce(policy.cap, decided, until))
        return found

    def finished(self) -> None:
        """Judge what can only be judged at the end: I1 and I7."""
        for tenant in self.world.sql.accounts:
            stretches = [
                Stretch(b.user, b.since, min(b.until, self._taken(tenant, b)), b.granted)
                for b in self.beliefs
                if self._tenant_of.get(b.lease) == tenant
            ]
            self.violations += over_the_cap(stretches, self.caps(tenant))
        self._ledger()

    def _taken(self, tenant: str, belief: Any) -> int:
        """Tell when a seat was taken by force from somebody who may go on believing: the vendor's own word."""
        return min((at for at in self._forced[tenant, belief.user] if at >= belief.granted), default=FOR_EVER)

    def _ledger(self) -> None:
        sql = self.world.sql
        for (epoch, event), (server, life) in self._acknowledged_events.items():
            if server.life == life and not sql.has(epoch, event):
                self._broken("events lost", f"{event} of epoch {epoch}")
        for lease, known in sql.ledger.items():
            if (
                known.started_ms is not None
                and known.ended_ms is not None
                and known.ended_ms < known.started_ms
            ):
                self._broken("I7", f"{lease} ends before it starts: {known}")
        self._one_start_one_end(sql.rows)
        self._folded(sql.rows, sql.ledger)

    def _one_start_one_end(self, rows: list[tuple[int, Event]]) -> None:
        seen: dict[tuple[str, str, int], set[Event]] = defaultdict(set)
        first: dict[Event, int] = {}  # what is told again after a loss may be told in another epoch
        for epoch, event in sorted([*self._acknowledged_events, *rows]):
            first.setdefault(event, epoch)
        for _, event in rows:
            seen[event[3], event[0], first[event]].add(event)
        for (lease, kind, epoch), events in seen.items():
            # A late release of an earlier start may end what a rollback restored; its holder is adopted again.
            adopted = (lease, "adopted", epoch) in seen
            if kind != "adopted" and not adopted and len(events) > 1:
                self._broken("events doubled", f"{lease} {kind} in epoch {epoch}: {events}")
        lineages: dict[tuple[str, str], set[int]] = defaultdict(set)
        for lease, kind, epoch in seen:
            lineages[lease, kind].add(epoch)
        for (lease, kind), epochs in lineages.items():
            if kind == "started" and len(epochs) > 1:
                self._broken("events doubled", f"{lease} started in epochs {epochs}")

    def _folded(self, rows: list[tuple[int, Event]], ledger: Mapping[str, Any]) -> None:
        """Whatever the order and however often events come, the ledger is the same, and right."""
        shuffled = [*rows, *rows]
        random.Random(self.world.seed).shuffle(shuffled)
        again: dict[str, Any] = {}
        for epoch, event in shuffled:
            known = known_from(usage_event(epoch, event), event[4])
            again[event[3]] = join(again[event[3]], known) if event[3] in again else known
        for lease, known in ledger.items():
            if again[lease][3:] != known[3:]:
                self._broken("I7", f"{lease} folds to {known} and to {again[lease]}")
        self._no_end_in_use(ledger)

    def _no_end_in_use(self, ledger: Mapping[str, Any]) -> None:
        """Where nothing was lost, no lease ran out, as the ledger has it, before its holder stopped."""
        slack = self.world.times.delta_ms + self.world.times.w_ms + 1
        for first, second in pairwise(sorted(self.beliefs, key=lambda b: (b.lease, b.since))):
            known = ledger.get(first.lease)
            reopened = first.lease == second.lease and known is not None and known.end_reason == "expired"
            if known and reopened and self.world.setting.fault in {"calm", "network", "seatd", "sql"}:
                node = self.world.primary
                if node.time_ms(second.until) > known.ended_ms + slack + self.world.times.q_ms:
                    self._broken("I7", f"{first.lease} ended at {known.ended_ms} and was used after")
