"""What the line must do, said once more in plain Python: the part of the oracle about those who wait.

A line is a dictionary of users: since when each waits, until when it stands, whether a seat was offered to it.  Whoever
stands no more is nowhere, whether somebody looked or not.
"""

from typing import Any

from tests.seats.state import Sample, Stand, Tenant

PATIENCE = 10_000
TAKE_IT = 2_000
REMEMBERED = 8

Answer = list[Any]


class Waiting:
    """The rules of the line; the oracle is the rest."""

    q: int
    now: int

    def in_use(self, t: Tenant) -> int:
        raise NotImplementedError

    def _pass_by(self, t: Tenant) -> None:
        raise NotImplementedError

    def _changed(self, t: Tenant) -> Sample:
        raise NotImplementedError

    def standing(self, t: Tenant) -> list[str]:
        """Those who stand in line now, the first first."""
        stands = {user: stand for user, stand in t.line.items() if stand.until > self.now}
        return sorted(stands, key=lambda user: (stands[user].order, user))

    def _look_at_line(self, t: Tenant) -> list[str]:
        line = self.standing(t)
        t.line = {user: t.line[user] for user in line}
        self._note_waiting(t)
        return line

    def _note_waiting(self, t: Tenant) -> None:
        if t.line:
            self._pass_by(t)
            if len(t.line) > (t.sample.waiting if t.sample else 0):
                self._changed(t).waiting = len(t.line)

    def _order(self, t: Tenant, user: str, ticket: int) -> int:
        known = [t.line[user].order] if user in t.line else []
        return min(known + ([ticket] if ticket else []), default=0)

    def _ahead(self, t: Tenant, user: str, ticket: int) -> int:
        order = self._order(t, user, ticket)
        return sum(not order or stand.order < order for stand in t.line.values())

    def _join(self, t: Tenant, user: str, ticket: int) -> int:
        order = self._order(t, user, ticket)
        line = self.standing(t)
        if user not in t.line:
            last = t.line[line[-1]].order if line else 0
            if len(line) >= 2 * t.policy.cap:
                if not line or not order or order >= last:
                    return 0
                del t.line[line[-1]]
            order = order or max(self.now, last + 1)
        t.line[user] = Stand(order, self.now + PATIENCE)
        self._note_waiting(t)
        return order

    def _offer(self, t: Tenant, seats: int) -> list[str]:
        first = self.standing(t)[: max(seats, 0)]
        for user in first:
            if not t.line[user].offered:
                t.line[user] = Stand(t.line[user].order, self.now + TAKE_IT, offered=True)
        return first

    def _pace(self, t: Tenant, position: int) -> int:
        if len(t.freed) < 2:
            return 0
        gaps = len(t.freed) - 1
        return max(-(-position * (self.now - t.freed[0]) // gaps), 1)

    def _note_freed(self, t: Tenant, was: int) -> None:
        if t.use < was and was >= t.policy.cap:
            t.freed = [*t.freed, self.now][-REMEMBERED:]

    def _line(self, t: Tenant, what: str, users: list[str]) -> Answer:
        if what == "leave":
            for user in users:
                t.line.pop(user, None)
            return ["left"]
        policy = t.policy
        over = policy.trial_until_ms and policy.trial_until_ms <= self.now
        if policy.suspended_since_ms or policy.tariff is None or over:
            return ["ask"]
        waiting = len(self._look_at_line(t))
        for user in users:
            if user in t.line and not t.line[user].offered:
                t.line[user].until = self.now + PATIENCE
        lost = [user for user in users if user not in t.line]
        return ["line", waiting, self._offer(t, policy.cap - self.in_use(t)), lost]
