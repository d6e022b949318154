"""What the seat plane must do, said once more in plain Python: the oracle of the scripts.

Written from the rules of the design, not from the Lua: dictionaries instead of keys, one lease a user,
ends by policy marked on the lease when the policy changes.  Time is a number that the test moves.  It
answers every operation and lists every usage event; `World` holds both against the real scripts.

What is looked at when is part of the rules, because an expired lease that nobody looked at may still be
renewed: acquire, release and revoke look at the user's own lease; an acquire that finds no room ends as many
run-out leases, oldest first, as it needs; a sweep looks at all that ran out; a renewal looks only at itself.
"""

from collections.abc import Callable
from typing import Any

from seatd.model import Policy, Tariff
from tests.seats.state import Sample, Seat, Tenant, hold_key, request_key
from tests.seats.waiting import Waiting

MINUTE = 60_000
SEATS_BY_TARIFF = {"agent", "team", "service"}
Answer = list[Any]
Event = tuple[Any, ...]


class Oracle(Waiting):
    """Answers operations at `now`; `events` lists what the stream must hold."""

    def __init__(self, q_ms: int, now: int) -> None:
        self.q = q_ms
        self.now = now
        self.clock = now  # what the store's clock is held to from the next call on
        self.tenants: dict[str, Tenant] = {}
        self.events: list[Event] = []
        self._verbs: dict[str, Callable[..., Answer]] = {
            "acquire": self._acquire,
            "line": self._line,
            "renew": self._renew,
            "release": self._release,
            "revoke": self._revoke,
            "sweep": self._sweep,
            "inspect": self._inspect,
        }

    def answer(self, verb: str, op: Any) -> Answer:
        """Do one operation; `op` is what the script gets, but a `Policy` for `project`."""
        if verb == "project":
            return self._project(op)
        tenant = self.tenants.get(op[0])
        if tenant is None:
            if verb == "sweep":
                return ["swept", 0, 0]
            if verb == "inspect" and op[1] == "status":
                return ["status", 0, 0, 0, 0, self.now, 0, 0]
            return ["unknown_tenant"]
        return self._verbs[verb](tenant, *op[1:])

    # -- time, and what it does to a lease --------------------------------------------------------

    def lapsed(self, seat: Seat) -> bool:
        """Tell whether nobody can believe in the seat any more."""
        return seat.expires + self.q <= self.now

    def _counted(self, t: Tenant) -> dict[str, Seat]:
        return {user: seat for user, seat in t.seats.items() if seat.kind != "service"}

    def in_use(self, t: Tenant) -> int:
        """Count the seats that are in use."""
        return sum(not self.lapsed(seat) for seat in self._counted(t).values())

    def _over(self, t: Tenant, seat: Seat) -> tuple[int, str] | None:
        """When and why the account's own changes ended the lease."""
        trial = t.policy.trial_until_ms
        if seat.cut is None and trial and trial <= self.now:
            return trial, "trial_expired"
        return seat.cut

    def _end(self, t: Tenant, user: str, seat: Seat, reason: str, at: int) -> None:
        at = max(seat.granted, min(at, seat.expires))
        seat.ended = reason
        # The user's next start must be later than this one, which may have run ahead of the clock.
        self.clock = max(self.clock, seat.start + 1)
        self.events.append(("ended", t.policy.tenant, at, seat.lease, user, reason))
        forget = max(seat.expires, self.now) + self.q + t.policy.ttl_ms
        t.leases[seat.lease] = (user, reason)
        t.forget[seat.lease] = forget
        for request, content in seat.requests.items():
            key = request_key(user, seat.client, request)
            t.requests[key] = (content, reason)
            t.forget[key] = forget

    def _cut_short(self, t: Tenant, user: str, seat: Seat, over: tuple[int, str]) -> None:
        at, reason = over
        self._end(t, user, seat, "expired" if at >= seat.expires else reason, at)

    def _look(self, t: Tenant, user: str) -> Seat | None:
        """Look at the user's lease: end it if it is over; drop it if nobody can believe in it."""
        seat = t.seats.get(user)
        if seat is None:
            return None
        over = self._over(t, seat)
        if not seat.ended and over:
            self._cut_short(t, user, seat, over)
        elif not seat.ended and self.lapsed(seat):
            self._end(t, user, seat, "expired", seat.expires)
        if seat.ended and self.lapsed(seat):
            self._drop(t, user)
            return None
        return seat

    def _drop(self, t: Tenant, user: str) -> None:
        was = t.use
        del t.seats[user]
        self._changed(t)
        self._note_freed(t, was)

    # -- samples ----------------------------------------------------------------------------------

    def _pass_by(self, t: Tenant) -> None:
        if t.sample and t.sample.at + MINUTE <= self.now:
            numbers = (t.use, t.sample.peak, t.policy.cap, t.sample.waiting, len(t.sample.denied))
            self.events.append(("sample", t.policy.tenant, t.sample.at, *numbers))
            t.sample = None

    def _changed(self, t: Tenant) -> Sample:
        self._pass_by(t)
        if t.sample is None:
            t.sample = Sample(self.now - self.now % MINUTE, t.use)
        t.use = self.in_use(t)
        t.sample.peak = max(t.sample.peak, t.use)
        return t.sample

    def _deny(self, t: Tenant, user: str, answer: Answer) -> Answer:
        key = (user, answer[0])
        self._pass_by(t)
        if t.sample is None or key not in t.sample.denied:
            self._changed(t).denied.add(key)
            self.events.append(("denied", t.policy.tenant, self.now, *key))
        if answer[0] != "no_seat":
            t.line.pop(user, None)
        return answer

    # -- verbs ------------------------------------------------------------------------------------

    def _project(self, policy: Policy) -> Answer:
        t = self.tenants.get(policy.tenant)
        if t is None:
            t = self.tenants[policy.tenant] = Tenant(policy)
            self._changed(t)
            return ["projected", 1]
        old = t.policy
        if old.version >= policy.version:
            return ["projected", 0]
        self._pass_by(t)
        cut = self._cut(old, policy)
        for seat in t.seats.values():
            if not seat.ended and cut and seat.cut is None:
                seat.cut = cut
        t.policy = policy
        if policy.cap != old.cap:
            self._changed(t)
        return ["projected", 1]

    def _cut(self, old: Policy, new: Policy) -> tuple[int, str] | None:
        if old.trial_until_ms and old.trial_until_ms <= self.now:
            return old.trial_until_ms, "trial_expired"
        if old.tariff and new.tariff is None:
            return self.now, "contract_ended"
        if old.tariff and new.tariff != old.tariff:
            return self.now, "tariff_switched"
        if new.suspended_since_ms and not old.suspended_since_ms:
            return self.now, "suspended"
        return None

    def _key(self, t: Tenant, key_hash: str) -> Answer | None:
        grant = t.policy.keys.get(key_hash)
        if grant is None or (grant.expires_ms and grant.expires_ms <= self.now):
            return ["unauthorized"]
        return None if grant.scope == "client" else ["forbidden"]

    def _may_work(self, policy: Policy) -> Answer | None:
        if policy.suspended_since_ms:
            return ["suspended", policy.suspended_since_ms]
        if policy.trial_until_ms and policy.trial_until_ms <= self.now:
            return ["trial_expired", policy.trial_until_ms]
        if policy.tariff is None:
            return ["no_tariff", policy.no_tariff_since_ms]
        return None

    def _acquire(
        self,
        t: Tenant,
        key_hash: str,
        user: str,
        client: str,
        request: str,
        content: str,
        takeover: int,
        asked: Any,
        lease: str,
        labels: Any,
        in_line: int,
        ticket: int,
        valid_until: int,
    ) -> Answer:
        refused = self._key(t, key_hash)
        if refused:
            return refused
        refused = self._may_work(t.policy)
        named = set(t.policy.bindings.get(user, ()))
        kind = "service" if "service" in named else str(t.policy.tariff or "")
        if not refused and kind == Tariff.AGENT and "agent" not in named:
            refused = ["not_named", "agent"]
        missing = [p for p in asked or () if p not in named and p not in t.policy.open_addons]
        if not refused and missing:
            refused = ["addon_not_named", missing[0]]
        if refused:
            return self._deny(t, user, refused)
        addons = sorted(named - SEATS_BY_TARIFF) if asked is False else list(asked)

        seat = self._look(t, user)
        after = seat.start if seat else 0
        wants_it = seat and not seat.ended and (seat.client == client or takeover)
        if seat and wants_it and seat.kind != "team" and seat.kind not in named:
            self._cut_short(t, user, seat, (self.now, "revoked"))  # the name that carried it is gone
            if seat.kind == "service":  # it never counted, so it keeps nobody out
                self._drop(t, user)
                seat = None
        known = t.requests.get(request_key(user, client, request))
        if request and known:
            return ["request_id_reused"] if known[0] != content else ["lease_gone", known[1]]
        ttl = t.policy.ttl_ms
        if seat and not seat.ended and seat.client == client:
            if request and seat.requests.get(request, content) != content:
                return ["request_id_reused"]
            if not request or request not in seat.requests:
                seat.start = max(self.now, seat.start + 1)
                if request:
                    seat.requests[request] = content
            seat.expires = max(seat.expires, self.now + ttl)
            t.line.pop(user, None)
            return [
                "granted",
                0,
                seat.lease,
                seat.start,
                seat.expires,
                ttl,
                seat.kind,
                seat.cap,
                addons,
                t.policy.version,
            ]
        floor = expires = 0
        cap = t.policy.cap
        if seat and not seat.ended:
            if not takeover:
                return self._deny(t, user, ["seat_elsewhere", seat.client, seat.granted])
            self._end(t, user, seat, "taken_over", self.now)
            kind, floor, expires = seat.kind, max(seat.floor, seat.expires), seat.expires
            cap = max(seat.cap, cap)  # the seat moves, and with it what it was granted under
        elif seat and seat.ended != "released":
            free_at = max(seat.expires + self.q, t.holds.get(hold_key(user), 0))
            return self._deny(t, user, ["conflict", seat.ended, free_at, self.now])
        elif t.holds.get(hold_key(user), 0) > self.now:
            return self._deny(t, user, ["conflict", "revoked", t.holds[hold_key(user)], self.now])
        elif seat and seat.kind != kind:
            return self._deny(t, user, ["conflict", seat.ended, seat.expires + self.q, self.now])
        else:
            if seat:
                floor, expires = seat.floor, seat.expires
            ticket = ticket if valid_until > self.now else 0
            refused = None if kind == "service" else self._no_room(t, user, in_line, ticket)
            if refused:
                waits = in_line == 1 and refused[-2]
                return refused if waits else self._deny(t, user, refused)
        start = max(self.now, after + 1)
        new = Seat(lease, client, kind, cap, start, start, max(expires, self.now + ttl), floor)
        if request:
            new.requests[request] = content
        t.seats[user] = new
        t.line.pop(user, None)
        t.leases[lease] = (user, "")
        self.events.append(("started", t.policy.tenant, start, lease, user, kind, labels or {}))
        self._changed(t)
        return ["granted", 1, lease, start, new.expires, ttl, kind, cap, addons, t.policy.version]

    def _no_room(self, t: Tenant, user: str, in_line: int, ticket: int) -> Answer | None:
        def others() -> list[str]:
            return sorted(self._counted(t).keys() - {user}, key=lambda u: (t.seats[u].expires, u))

        self._look_at_line(t)
        # A seat that is kept for its user is nobody else's.
        ahead = 0 if user in self._counted(t) else self._ahead(t, user, ticket)
        short = len(others()) + ahead - t.policy.cap + 1
        for other in [u for u in others() if self.lapsed(t.seats[u])][: max(short, 0)]:
            self._look(t, other)
        if len(others()) + ahead < t.policy.cap:
            return None
        standing = [seat.expires for seat in self._counted(t).values() if not self.lapsed(seat)]
        order = self._join(t, user, ticket) if in_line else 0
        position = ahead + 1 if order else 0
        pace = self._pace(t, position) if order else 0
        self._offer(t, t.policy.cap - len(standing))
        full = [len(standing), t.policy.cap, min(standing, default=0), self.now, self.q]
        return ["no_seat", *full, len(t.line), position, order, pace]

    def _renew(self, t: Tenant, key_hash: str, lease: str, user: str, start: int, expires: int) -> Answer:
        refused = self._key(t, key_hash)
        if refused:
            return refused
        seat = t.seats.get(user)
        if seat is None or seat.lease != lease or start < seat.start:
            return ["lease_gone", self._why_gone(t, seat, lease, start, expires)]
        if seat.ended:
            return ["lease_gone", seat.ended]
        over = self._over(t, seat)
        if not over and seat.kind != "team" and seat.kind not in t.policy.bindings.get(user, ()):
            over = (self.now, "revoked")
        if over:
            self._cut_short(t, user, seat, over)
            return ["lease_gone", seat.ended]
        late = self.lapsed(seat)
        seat.start = max(seat.start, start)
        seat.expires = max(seat.expires, expires, self.now + t.policy.ttl_ms)
        if late:
            self._changed(t)
        return ["renewed", seat.start, seat.expires, t.policy.ttl_ms, seat.kind, seat.cap, t.policy.version]

    def _why_gone(self, t: Tenant, seat: Seat | None, lease: str, start: int, expires: int) -> str:
        reason = t.leases.get(lease, ("", ""))[1]
        if reason:
            return reason
        if seat and seat.lease == lease:
            return "taken_over"
        if expires + self.q <= self.now:
            return "expired"
        return "taken_over" if seat and seat.start > start else "unknown"

    def _release(self, t: Tenant, key_hash: str, lease: str, user: str, start: int) -> Answer:
        refused = self._key(t, key_hash)
        if refused:
            return refused
        seat = self._look(t, user)
        if seat is None or start < seat.start or seat.ended == "released":
            return ["released", 0]
        if seat.lease != lease and (start == seat.start or t.leases.get(lease, ("", ""))[1]):
            return ["released", 0]
        if not seat.ended:
            self._end(t, user, seat, "released", self.now)
        # The client of an earlier lease that came back has not said that it stopped.
        floor = seat.floor if seat.lease == lease else max(seat.floor, seat.expires)
        if floor + self.q > self.now:
            seat.ended, seat.expires, seat.floor = "released", floor, floor
            self._changed(t)
        else:
            self._drop(t, user)
        return ["released", 1]

    def _revoke(self, t: Tenant, lease: str, user: str, kind: str, force: int, hold_ms: int) -> Answer:
        if lease:
            user = t.leases.get(lease, ("", ""))[0]
        seat = self._look(t, user)
        if seat is None or (lease and seat.lease != lease) or (kind and seat.kind != kind):
            return ["not_found"]
        if not seat.ended:
            self._end(t, user, seat, "revoked", self.now)
        t.holds[hold_key(user)] = t.forget[hold_key(user)] = self.now + hold_ms
        if not hold_ms:
            del t.holds[hold_key(user)], t.forget[hold_key(user)]
        if force:
            self._drop(t, user)
        return ["revoked", seat.lease, user, self.now if force else seat.expires + self.q]

    def _sweep(self, t: Tenant, _name: str, most: int) -> Answer:
        looked = 0
        for service in (False, True):
            over = [(s.expires, u) for u, s in t.seats.items() if (s.kind == "service") is service]
            for _, user in sorted(pair for pair in over if self.lapsed(t.seats[pair[1]]))[: most - looked]:
                self._look(t, user)
                looked += 1
        stale = sorted((at, key) for key, at in t.forget.items() if at <= self.now)
        for _, key in stale[:most]:
            del t.forget[key]
            t.leases.pop(key, None)
            t.requests.pop(key, None)
            t.holds.pop(key, None)
        self._pass_by(t)
        more = looked >= most or len(stale) >= most
        return ["swept", looked, int(more)]

    def _inspect(self, t: Tenant, what: str, *rest: Any) -> Answer:
        if what == "status":
            return [
                "status",
                1,
                self.in_use(t),
                t.policy.cap,
                t.policy.version,
                self.now,
                0,
                len(self.standing(t)),
            ]
        if what == "addon":
            return self._addon(t, *rest)
        rows = []
        for service in (False, True):
            half = [(s.expires, u, s) for u, s in t.seats.items() if (s.kind == "service") is service]
            for expires, user, seat in sorted(half, key=lambda row: row[:2]):
                if not self.lapsed(seat):
                    rows.append([user, seat.lease, seat.client, seat.granted, expires, seat.kind, self._ending(t, seat)])  # fmt: skip
        return ["who", self.now, len(t.seats), rows]

    def _ending(self, t: Tenant, seat: Seat) -> str:
        over = self._over(t, seat)
        if seat.ended or not over or over[0] >= seat.expires:
            return seat.ended
        return over[1]

    def _addon(self, t: Tenant, key_hash: str, lease: str, product: str) -> Answer:
        refused = self._key(t, key_hash)
        if refused:
            return refused
        user, reason = t.leases.get(lease, ("", "unknown"))
        if reason:
            return ["lease_gone", reason]
        seat = t.seats[user]
        ending = self._ending(t, seat) or ("expired" if self.lapsed(seat) else "")
        if ending:
            return ["lease_gone", ending]
        named = {*t.policy.bindings.get(user, ()), *t.policy.open_addons}
        return ["named", user] if product in named else ["addon_not_named"]

    # -- for the test -----------------------------------------------------------------------------

    def wanted_at(self, t: Tenant) -> int | None:
        """The instant by which somebody must look at the tenant again."""
        instants = [seat.expires + self.q for seat in t.seats.values()] + list(t.forget.values())
        if t.sample:
            instants.append(t.sample.at + MINUTE)
        return min(instants, default=None)

    def turning_points(self) -> list[int]:
        """Instants to come at which an answer may turn."""
        points = {self.now - self.now % MINUTE + MINUTE}
        for t in self.tenants.values():
            for seat in t.seats.values():
                points |= {seat.expires, seat.expires + self.q, seat.floor + self.q}
            points |= {stand.until for stand in t.line.values()}
            points |= {*t.forget.values(), t.policy.trial_until_ms or 0}
            points |= {grant.expires_ms or 0 for grant in t.policy.keys.values()}
        return sorted(point for point in points if point > self.now)
