"""A store node, modelled: the seat scripts over a state that can be copied, lost, rolled back and split.

`Node.call(verb, operation, now)` is the vocabulary of the scripts: acquire, renew, release, revoke, project,
sweep, open, and `again` (events that a server adds again).  Answers are lists like the scripts'.  Which
decision is taken is `Rules`' business; time is handed in.
"""

from collections.abc import Callable
from typing import Any

from seatd.seats.receipts import Receipt
from tests.sim.operations import (
    Acquire,
    Again,
    Answer,
    Close,
    Event,
    Open,
    Project,
    Release,
    Renew,
    Revoke,
    State,
    Sweep,
    Tenant,
)
from tests.sim.rules import BY_THE_HOLDER, FOR_EVER, Rules, Seat, Times, Tombstone, forbidden

KEPT_MS = 10_500


class Node:
    """One store: a state, an identity, a clock that may be off, drift and step."""

    def __init__(self, name: str, rules: Rules, times: Times) -> None:
        self.name = name
        self.rules = rules
        self.times = times
        self.state = State()
        self.starts = 0
        self.run_id = self.replid = ""
        self.offset_ms = 0
        self.rate_ppm = 1_000_000
        self.up = True
        self.writes_until = FOR_EVER
        self.life = 0
        self.lineage = 0
        self.copies: list[tuple[int, State]] = []
        self.emitted: list[tuple[int, int, Event]] = []
        self.now = self.host = 0
        self._verbs: dict[str, Callable[..., Answer]] = {
            "acquire": self._acquire, "renew": self._renew, "release": self._release,
            "revoke": self._revoke, "project": self._project, "sweep": self._sweep, "again": self._again, "close": self._close,
        }  # fmt: skip
        self.restart()
        self.promote()

    # -- what can happen to a node ----------------------------------------------------------------

    def restart(self) -> None:
        """Come back as another process; connections are gone."""
        self.starts += 1
        self.life += 1
        self.run_id = f"{self.name}.{self.starts}"

    def promote(self) -> None:
        self.starts += 1
        self.replid = f"r.{self.name}.{self.starts}"
        self.writes_until = FOR_EVER

    def put(self, state: State) -> None:
        """Have another state: a new lineage."""
        self.state = state
        self.lineage += 1

    def older(self, host_ms: int) -> State:
        """Copy the state as it was at an instant, as far as it is remembered."""
        for at, state in reversed(self.copies):
            if at <= host_ms:
                return state.copy()
        return self.copies[0][1].copy() if self.copies else self.state.copy()

    def live(self, tenant: str) -> list[tuple[str, Seat]]:
        """List who sits."""
        known = self.state.tenants.get(tenant)
        return [(user, seat) for user, seat in (known.seats if known else {}).items() if not seat.ended]

    def told(self) -> Any:
        """Tell what the latest call added to the stream: (epoch of the event, event)."""
        return [entry[1:] for entry in self.emitted]

    def time_ms(self, host_ms: int) -> int:
        return host_ms * self.rate_ppm // 1_000_000 + self.offset_ms

    # -- calls -------------------------------------------------------------------------------------

    def call(self, verb: str, op: Any, host_ms: int, expected: tuple[int, int] | None = None) -> Answer:
        """Run one operation; `expected`: an epoch, and the time that the caller thinks this store has in it."""
        state, self.host = self.state, host_ms
        self.emitted = []
        time_ms = self.time_ms(host_ms)
        self.now = time_ms
        told = expected and expected[0] == state.epoch and verb not in {"open", "close"}
        if told and expected and self.rules.ahead(time_ms, expected[1], self.times.q_ms):
            return ["ahead", time_ms, state.epoch]
        self.now = max(time_ms, state.hwm)
        if verb == "open":
            return self._open(op)
        if state.pair != self.rules.identity(self.run_id, self.replid):
            if not state.vacancy:
                state.vacancy = f"{self.name}.{self.lineage}.{host_ms}"
            return ["unopened", state.vacancy]
        state.hwm = self.now
        answer = self._verbs[verb](op)
        self.copies.append((host_ms, state.copy()))
        if self.copies[0][0] < host_ms - 2 * KEPT_MS:
            self.copies = [copy for copy in self.copies if copy[0] >= host_ms - KEPT_MS]
        return answer

    def _emit(self, *event: Any, epoch: int = 0) -> None:
        state = self.state
        state.seq += 1
        state.stream.append((state.epoch, state.seq, epoch or state.epoch, event))
        self.emitted.append((state.epoch, epoch or state.epoch, event))

    def _again(self, op: Again) -> Answer:
        for epoch, event in op.events:
            self._emit(*event, epoch=epoch)
        return ["added", len(op.events)]

    def _close(self, op: Close) -> Answer:
        """Answer nothing more in this epoch: the clock stepped forward."""
        if op.epoch == self.state.epoch:
            self.state.pair = ()
        return ["closed"]

    def _open(self, op: Open) -> Answer:
        state, pair = self.state, self.rules.identity(self.run_id, self.replid)
        if state.pair == pair:
            return ["open", state.epoch]
        if not self.rules.opens(state.vacancy, op.vacancy):
            return ["unopened", state.vacancy]
        state.pair, state.epoch, state.seq, state.vacancy, state.hwm = pair, op.epoch, 0, "", self.now
        for name in {*state.tenants, *op.tenants}:
            tenant = state.tenants.setdefault(name, Tenant())
            tenant.policy = self.rules.policy_after_opening(tenant.policy)
            tenant.learn_until = self.now + op.tenants[name] if name in op.tenants else 0
            for stone in op.tombstones:
                if stone.tenant == name:
                    self._bury(name, tenant, stone)
        return ["open", state.epoch]

    def _bury(self, name: str, tenant: Tenant, stone: Tombstone) -> None:
        tenant.dead[stone] = max(tenant.learn_until, self.now)
        for user, seat in list(tenant.seats.items()):
            if not seat.ended and stone.names(user, seat.lease, seat.kind, seat.start):
                self._end(name, tenant, user, seat, stone.reason)
                if stone.reason == "released":
                    self._free(tenant, user)

    # -- a lease begins and ends --------------------------------------------------------------------

    def learns(self, tenant: Tenant) -> bool:
        return self.now < tenant.learn_until

    def _end(
        self, name: str, tenant: Tenant, user: str, seat: Seat, reason: str, at: int | None = None
    ) -> Seat:
        at = max(seat.granted, min(self.now if at is None else at, seat.expires))
        self._emit("ended", name, at, seat.lease, user, reason)
        ttl = tenant.policy.ttl_ms if tenant.policy else 0
        forget = max(seat.expires, self.now) + self.times.q_ms + ttl
        # A client that was taken over has a receipt that is worth nothing, but no tombstone: its floor stands.
        if reason not in {"taken_over", "expired"}:
            stone = Tombstone(name, user, seat.lease, seat.start, "released")
            if reason != "released":
                stone = self.rules.revocation(name, user, seat.lease, seat.start)._replace(reason=reason)
            tenant.dead[stone] = forget
        for request in seat.requests:
            tenant.requests[user, seat.client, request] = (reason, forget)
        ended = seat._replace(ended=reason)
        tenant.seats[user] = ended
        return ended

    def _free(self, tenant: Tenant, user: str) -> None:
        """Free the seat, as far as no older client of the same user may believe in it."""
        seat = tenant.seats[user]
        if seat.floor + self.times.q_ms > self.now:
            tenant.seats[user] = seat._replace(expires=seat.floor, ended="released")
        else:
            del tenant.seats[user]

    def _settled(self, name: str, tenant: Tenant, user: str) -> Seat | None:
        seat = tenant.seats.get(user)
        if seat is None or self.learns(tenant) or seat.expires + self.times.q_ms > self.now:
            return seat
        if not seat.ended:
            self._end(name, tenant, user, seat, "expired", seat.expires)
        del tenant.seats[user]
        return None

    # -- verbs --------------------------------------------------------------------------------------

    def _project(self, op: Project) -> Answer:
        state = self.state
        if not self.rules.same_epoch(state.epoch, op.epoch):
            return ["stale", state.epoch]
        tenant = state.tenants.setdefault(op.tenant, Tenant())
        top = max([self.now - 1, *(seat.start for seat in tenant.seats.values())])
        if tenant.policy and tenant.policy.version >= op.policy.version:
            return ["projected", 0, top]
        if self.learns(tenant):
            self._cut(op, tenant)
        tenant.policy = op.policy
        for user, seat in list(tenant.seats.items()):
            reason = forbidden(op.policy, user, seat.kind)
            if not seat.ended and reason:
                lapsed = seat.expires <= self.now
                self._end(op.tenant, tenant, user, seat, "expired" if lapsed else reason)
        return ["projected", 1, top]

    def _cut(self, op: Project, tenant: Tenant) -> None:
        """Note what the policy ends among leases that only their receipts know."""
        until, policy = tenant.learn_until, op.policy
        kinds = {"team", "agent"} - {str(policy.tariff)}
        if policy.suspended_since_ms is not None:
            kinds = {""}
        for kind in kinds:
            tenant.dead[Tombstone(op.tenant, "", "", self.now - 1, "tariff_switched", kind)] = until
        for user in policy.bindings.keys() - (tenant.policy or policy).bindings.keys():
            tenant.dead[Tombstone(op.tenant, user, "", self.now - 1, "revoked", "agent")] = until

    def _revoke(self, op: Revoke) -> Answer:
        if not self.rules.same_epoch(self.state.epoch, op.epoch):
            return ["stale", self.state.epoch]
        tenant = self.state.tenants.get(op.tenant)
        seat = tenant and self._settled(op.tenant, tenant, op.user)
        if tenant and self.learns(tenant):  # the lease may be known by its receipt only
            stone = self.rules.revocation(op.tenant, op.user, op.lease, op.start)
            tenant.dead[stone] = tenant.learn_until
        if not tenant or not seat or seat.lease != op.lease:
            return ["not_found"]
        if not seat.ended:
            self._end(op.tenant, tenant, op.user, seat, "revoked")
        if op.force:
            del tenant.seats[op.user]
        return ["revoked", seat.lease, op.user]

    def _sweep(self, op: Sweep) -> Answer:
        tenant = self.state.tenants.get(op.tenant)
        if tenant is None or self.learns(tenant):
            return ["swept", 0, 0]
        for user in list(tenant.seats):
            self._settled(op.tenant, tenant, user)
        tenant.dead = {stone: at for stone, at in tenant.dead.items() if at > self.now}
        tenant.requests = {key: value for key, value in tenant.requests.items() if value[1] > self.now}
        return ["swept", 0, 0]

    def _release(self, op: Release) -> Answer:
        held, tenant = op.receipt, self.state.tenants.get(op.tenant)
        if tenant is None or tenant.policy is None:
            return ["unknown_tenant"]
        seat = self._settled(op.tenant, tenant, held.user)
        forget = max(held.expires_ms, self.now) + self.times.q_ms + tenant.policy.ttl_ms
        stone = Tombstone(op.tenant, held.user, held.lease, held.start_ms, "released")
        tenant.dead[stone] = max(forget, tenant.learn_until)
        # One id was given once, so a lease that stands under another id is another desktop's.
        if seat is None or seat.lease != held.lease or not self.rules.release_acts(seat.start, held.start_ms):
            return ["released", 0]
        if seat.ended in BY_THE_HOLDER:
            return ["released", 0]
        if not seat.ended:
            self._end(op.tenant, tenant, held.user, seat, "released")
        buried = op.buried_in and self.rules.same_epoch(self.state.epoch, op.buried_in)
        if buried:
            self._free(tenant, held.user)
        return ["released", 1 if buried else 2]

    def _acquire(self, op: Acquire) -> Answer:
        tenant = self.state.tenants.get(op.tenant)
        if tenant is None or tenant.policy is None:
            return ["unknown_tenant"]
        if self.learns(tenant):
            return ["learning", tenant.learn_until - self.now, "acquire"]
        policy = tenant.policy
        refused = forbidden(policy, op.user, str(policy.tariff))
        if refused:
            return ["refused", refused]
        seat = self._settled(op.tenant, tenant, op.user)
        known = tenant.requests.get((op.user, op.client, op.request))
        if known:
            return ["lease_gone", known[0]]
        if seat and not seat.ended:
            return self._of_the_holder(op, tenant, seat)
        floor, after, expires = 0, 0, 0
        if seat and seat.ended not in BY_THE_HOLDER:
            return ["conflict", seat.ended]
        if seat:  # released, but its seat is still kept: the same user may have it
            floor, after, expires = max(seat.floor, seat.expires), seat.start, seat.expires
        if len(tenant.seats.keys() - {op.user}) >= policy.cap:
            for other in list(tenant.seats):  # what ran out ends before its place is given away
                self._settled(op.tenant, tenant, other)
        used = len(tenant.seats.keys() - {op.user})
        if used >= policy.cap:
            return ["no_seat", used, policy.cap]
        return self._begin(op, tenant, str(policy.tariff), floor, after, expires)

    def _of_the_holder(self, op: Acquire, tenant: Tenant, seat: Seat) -> Answer:
        assert tenant.policy
        if seat.client != op.client:
            if not op.takeover:
                return ["seat_elsewhere", seat.client]
            self._end(op.tenant, tenant, op.user, seat, "taken_over")
            floor = self.rules.floor_after_takeover(seat.floor, seat.expires)
            return self._begin(op, tenant, seat.kind, floor, seat.start, seat.expires, seat.cap)
        expires = self.rules.extended_by_acquire(seat.expires, self.now, tenant.policy.ttl_ms)
        if op.request not in seat.requests:
            start = max(self.now, seat.start + 1)
            seat = seat._replace(start=start, requests=(*seat.requests, op.request))
        tenant.seats[op.user] = seat = seat._replace(expires=expires)
        return self._granted(tenant, seat, 0)

    def _begin(
        self, op: Acquire, tenant: Tenant, kind: str, floor: int, after: int, expires: int, cap: int = 0
    ) -> Answer:
        assert tenant.policy
        start = max(self.now, after + 1)
        expires = max(expires, self.now + tenant.policy.ttl_ms)
        seat = Seat(
            op.lease, op.client, kind, max(cap, tenant.policy.cap), start, start, expires, floor,
            confirmed=self.state.epoch, requests=(op.request,),
        )  # fmt: skip
        tenant.seats[op.user] = seat
        self._emit("started", op.tenant, start, op.lease, op.user, kind)
        return self._granted(tenant, seat, 1)

    def _granted(self, tenant: Tenant, seat: Seat, new: int) -> Answer:
        assert tenant.policy
        ttl, version = tenant.policy.ttl_ms, tenant.policy.version
        return ["granted", new, seat.lease, seat.start, seat.expires, ttl, seat.kind, seat.cap, version]

    def _renew(self, op: Renew) -> Answer:
        held, tenant = op.receipt, self.state.tenants.get(op.tenant)
        if tenant is None or tenant.policy is None:
            return ["unknown_tenant"]
        seat = tenant.seats.get(held.user)
        reason = self.rules.dead(tenant.dead, held)
        if reason:
            return ["lease_gone", reason]
        if seat and seat.start > held.start_ms:
            return ["lease_gone", "taken_over"]
        learns = self.learns(tenant)
        # A release of an earlier start, run again on what was restored, does not end this one.
        if seat and seat.lease == held.lease and seat.ended and not (learns and seat.start < held.start_ms):
            return ["lease_gone", seat.ended]
        reason = forbidden(tenant.policy, held.user, held.kind)
        if reason:
            return ["lease_gone", reason]
        if learns:
            return self._learn(op, tenant, seat)
        if seat is None or seat.lease != held.lease:
            return ["lease_gone", "expired" if held.expires_ms + self.times.q_ms <= self.now else "unknown"]
        return self._renewed(tenant, held, seat)

    def _renewed(self, tenant: Tenant, held: Receipt, seat: Seat) -> Answer:
        assert tenant.policy
        ttl = tenant.policy.ttl_ms
        expires = self.rules.extended(seat.expires, held.expires_ms, self.now, ttl)
        start = max(seat.start, held.start_ms)
        tenant.seats[held.user] = seat = seat._replace(start=start, expires=expires)
        return ["renewed", seat.start, expires, ttl, seat.kind, seat.cap, tenant.policy.version]

    def _learn(self, op: Renew, tenant: Tenant, seat: Seat | None) -> Answer:
        """Believe a receipt, or not yet."""
        assert tenant.policy
        held, epoch, rules = op.receipt, self.state.epoch, self.rules
        present = seat is not None and seat.lease == held.lease and not seat.ended
        left = tenant.learn_until - self.now
        if rules.in_doubt(self.now, self.times.delta_ms, held.expires_ms, present=present):
            return ["learning", left, "doubt"]
        others = [other for user, other in tenant.seats.items() if user != held.user]
        caps = [other.cap for other in others if other.confirmed == epoch]
        limit = rules.adoption_limit(tenant.policy.cap, held.cap, caps)
        if rules.in_the_way(others, epoch, self.now, self.times.q_ms) >= limit:
            return ["learning", left, "limit"]
        if seat is None or not present:
            floor = 0
            if (
                seat
            ):  # of two leases of one user the later start wins; who had the earlier may believe a while
                floor = max(seat.floor, seat.expires)
                if not seat.ended:
                    self._end(op.tenant, tenant, held.user, seat, "taken_over")
            seat = Seat(
                held.lease,
                held.client,
                held.kind,
                held.cap,
                held.start_ms,
                held.start_ms,
                held.expires_ms,
                floor,
            )
            self._emit("adopted", op.tenant, self.now, held.lease, held.user, held.kind)
        return self._renewed(tenant, held, seat._replace(confirmed=epoch))
