"""The modelled store beside a real one: what the rules would have answered to the same calls at the same instants.

`Twin` is the simulator's node where leases are concerned, and follows the product where an epoch is opened and a policy
put into force.  `differ` says whether two answers to one operation are not the same.
"""

from typing import Any

from tests.sim.operations import Answer, Project, Release, Renew, Revoke, Sweep, TakeAway, Tenant
from tests.sim.rules import Tombstone
from tests.sim.store import Node

SILENT = frozenset({"look", "sweep", "again", "reachable", "close", "open"})
WHOLE = frozenset({"granted", "renewed", "seat_elsewhere"})
"""Answers that must be the same in all they say.

Of others, only what they are: the reason of an end may be another one of several that hold, and a release that voids an earlier
lease of its user, which came back, acts there, and does not in the model.
"""


def differ(real: Answer, model: Answer) -> bool:
    """Tell whether two answers to one operation are not the same."""
    if real[0] != model[0]:
        return True
    if real[0] == "learning":
        return real[1:] != model[1:]
    if real[0] == "no_seat":  # the real one counts the seat of who asks as well
        return real[2] != model[2]
    return real[0] in WHOLE and real[: len(model)] != model[: len(real)]


def allowed(real: Answer, model: Answer) -> bool:
    """Tell whether the real store may say so, and both go on from different states.

    A seat of the other tariff, released, is kept while an older client of its user may believe in it: the design has it kept
    and does not say whether its user may have it as one of the new tariff meanwhile.
    """
    return real[:2] == ["conflict", "released"] and model[0] == "granted"


class Twin(Node):
    """A modelled node in the product's steps."""

    t0 = 0

    def answer(
        self, verb: str, op: Any, host_ms: int, expected: tuple[int, int] | None, offset_ms: int
    ) -> Answer:
        """Answer what the real store was asked at this instant."""
        self.offset_ms = offset_ms
        if verb == "close":
            return self._closed(op)
        if verb == "look":
            return []
        if verb in {"reachable", "sweep"}:
            answer: Answer = ["reachable"]
            for tenant in [*self.state.tenants, ""]:
                answer = self.call("sweep", Sweep(tenant), host_ms, expected)
        else:
            answer = self.call("revoke" if verb == "take_away" else verb, op, host_ms, expected)
        return ["stepped", answer[2]] if answer[0] == "ahead" else answer

    def time_ms(self, host_ms: int) -> int:
        return self.offset_ms

    def _closed(self, op: Any) -> Answer:
        if self.state.epoch < op.epoch:
            self.state.pair = ()
        return ["closed"]

    def _again(self, op: Any) -> Answer:
        return ["added"]

    def _open(self, op: Any) -> Answer:
        state = self.state
        if state.epoch == op.seen:
            state.pair = self.rules.identity(self.run_id, self.replid)
            state.epoch, state.seq, state.hwm, self.t0 = op.epoch, 0, self.now, self.now
            for tenant in state.tenants.values():
                tenant.policy, tenant.learn_until = None, 0
            self.copies.append((self.host, state.copy()))
        return ["open", state.epoch]

    def _project(self, op: Project) -> Answer:
        epoch, policy = self.state.epoch, op.policy
        tenant = self.state.tenants.setdefault(op.tenant, Tenant())
        if policy.epoch > epoch or (tenant.policy is None and 0 < policy.epoch < epoch):
            return ["earlier", epoch]
        if tenant.policy is None:
            self._begin_to_learn(op, tenant)
        return super()._project(op._replace(epoch=epoch))

    def _begin_to_learn(self, op: Project, tenant: Tenant) -> None:
        longest = op.policy.learn_ttl_ms
        window = self.rules.window_ms(self.times, longest, longest)
        until = self.t0 + window if longest else 0
        tenant.learn_until = until if until > self.now else 0
        tenant.dead = {}
        for stone in op.policy.tombstones if tenant.learn_until else ():
            tenant.dead[Tombstone(op.tenant, stone.user, "", stone.start_ms, stone.reason)] = until

    def _cut(self, op: Project, tenant: Tenant) -> None:
        """A policy names the version that ended every lease; nothing has to be noted."""

    def _renew(self, op: Renew) -> Answer:
        tenant = self.state.tenants.get(op.tenant)
        policy = tenant.policy if tenant and self.learns(tenant) else None
        if policy and op.receipt.version < policy.ended_version:
            return ["lease_gone", policy.ended_reason]
        return super()._renew(op)

    def _release(self, op: Release) -> Answer:
        if self.state.tenants.get(op.tenant, Tenant()).policy and op.buried_in not in {0, self.state.epoch}:
            return ["earlier", self.state.epoch]
        held, tenant = op.receipt, self.state.tenants.get(op.tenant)
        if tenant and self.learns(
            tenant
        ):  # voids all that the user had before, as what is buried in SQL does
            stone = Tombstone(op.tenant, held.user, "", held.start_ms, "released")
            tenant.dead[stone] = tenant.learn_until
        return super()._release(op)

    def _revoke(self, op: Revoke | TakeAway) -> Answer:
        tenant = self.state.tenants.get(op.tenant)
        if tenant is None or tenant.policy is None:
            return ["unknown_tenant"]
        if op.epoch not in {0, self.state.epoch}:
            return ["earlier", self.state.epoch]
        seat = tenant.seats.get(op.user)
        lease = op.lease if isinstance(op, Revoke) else seat.lease if seat and seat.kind == "agent" else ""
        return super()._revoke(Revoke(op.tenant, op.user, lease, op.start, op.force, self.state.epoch))
