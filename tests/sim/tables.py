"""The account plane as the product has it, for real stores: one tombstone a user, numbers of epochs, a cursor.

How the recorder moves its cursor and how the ledger folds is the product's own code; instants are the host's.
"""

from dataclasses import replace
from typing import Any

from seatd.accounts.policy import CLOCKS_MS
from seatd.model import KeyGrant, Policy, Scope, UsageEvent
from seatd.model import Tombstone as Stone
from seatd.usage.fold import join, known_from
from seatd.usage.sequence import Cursor, advance
from tests.sim.operations import Event
from tests.sim.real import KEY, OF_A_LEASE
from tests.sim.rules import Rules, Times, Tombstone
from tests.sim.sql import Sql

OPENS = {KEY: KeyGrant("k1", Scope.CLIENT)}


class ProductSql(Sql):
    """The tables as the product has them: one tombstone a user, epochs' numbers, the recorder's cursor."""

    def __init__(self, rules: Rules, times: Times) -> None:
        super().__init__(rules, times)
        self.opened = 0
        self.cursor = Cursor()
        self.gaps: list[Any] = []
        self._buried: dict[tuple[str, str], Stone] = {}
        self._recorded: set[Event] = set()

    def take_epoch(self, seen: int, now: int) -> int:
        """Take the next number."""
        self.epoch, self.opened = max(self.epoch, seen) + 1, now
        return self.epoch

    def change(self, tenant: str, **fields: Any) -> Policy:
        """Decide; what ends every lease names its version."""
        before = self.accounts[tenant].policy
        if fields.get("suspended_since_ms") is not None:
            fields |= {"ended_version": before.version + 1, "ended_reason": "suspended"}
        elif "tariff" in fields:
            fields |= {"ended_version": before.version + 1, "ended_reason": "tariff_switched"}
        return super().change(tenant, **fields)

    def policy_at(self, tenant: str, now: int) -> tuple[Policy, int] | None:
        """Read all that a projection tells."""
        account = self.accounts.get(tenant)
        if account is None:
            return None
        learns = self.epoch > 1 and account.created < self.opened + CLOCKS_MS
        known = replace(
            account.policy,
            keys=OPENS,
            learn_ttl_ms=account.lmax_ms(now) if learns else 0,
            tombstones=tuple(stone for (name, _), stone in self._buried.items() if name == tenant),
            epoch=self.epoch,
        )
        return known, self.epoch

    def bury(self, stone: Tombstone, now: int) -> int:
        """Write a user's tombstone; the later start stands."""
        key = (stone.tenant, stone.user)
        known = self._buried.get(key)
        if self.rules.buried(stone) and stone.user and (known is None or known.start_ms < stone.start):
            self._buried[key] = Stone(stone.user, stone.start, stone.reason)
        return self.epoch

    def commit(self, events: list[UsageEvent], before: Cursor) -> bool:
        """Write rows and the moved cursor; False where another recorder was first."""
        if before != self.cursor:
            return False
        progress = advance(before, events)
        self.cursor = progress.cursor
        self.gaps += progress.gaps
        for event in events:
            if event.kind not in OF_A_LEASE:
                continue
            told = (
                event.kind,
                event.tenant,
                event.at_ms,
                event.lease,
                event.user,
                event.reason or event.tariff,
            )
            self.rows.append((event.epoch, told))
            self._recorded.add(told)
            known, old = known_from(event, event.user), self.ledger.get(event.lease)
            self.ledger[event.lease] = join(old, known) if old else known
        return True

    def has(self, epoch: int, event: Event) -> bool:
        """Tell whether the ledger has this event, whatever epoch brought it."""
        return event in self._recorded
