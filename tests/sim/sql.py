"""The account plane, modelled: what SQL keeps for the seat plane, each method one transaction.

Tenants' policies by version, the longest ttl that may still run, tombstones, epochs, and the ledger with what
of the stream it has.  Instants are the host's.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from seatd.model import Policy, UsageEvent
from seatd.usage.fold import Known, join, known_from
from tests.sim.operations import Event, Open
from tests.sim.rules import FOR_EVER, Rules, Times, Tombstone


@dataclass
class Account:
    """One tenant: its policy, and the ttls that were and may still run: [ttl, until]."""

    policy: Policy
    older: list[list[int]] = field(default_factory=list)
    created: int = 0

    def lmax_ms(self, now: int) -> int:
        return max([self.policy.ttl_ms, *(ttl for ttl, until in self.older if until > now)])


class Sql:
    """The tables, and whether they can be reached."""

    def __init__(self, rules: Rules, times: Times) -> None:
        self.rules = rules
        self.times = times
        self.up = True
        self.epoch = 0
        self.vacancy = ""
        self.accounts: dict[str, Account] = {}
        self.tombstones: list[tuple[int, Tombstone]] = []  # (forget at, tombstone)
        self.ledger: dict[str, Known] = {}
        self.rows: list[tuple[int, Event]] = []
        self.committed: set[tuple[Any, ...]] = set()
        self.ended: list[
            list[Any]
        ] = []  # [until, tombstone]: ends by the server that leases may meet, for the checker

    def create(self, policy: Policy, now: int) -> None:
        self.accounts[policy.tenant] = Account(policy, created=now)

    def policy(self, tenant: str) -> tuple[Policy, int] | None:
        """Read a policy, and the epoch in which it was read."""
        account = self.accounts.get(tenant)
        return (account.policy, self.epoch) if account else None

    def change(self, tenant: str, **fields: Any) -> Policy:
        """Decide; a longer ttl raises Lmax at once, a shorter one lowers it only when `acknowledged`."""
        account = self.accounts[tenant]
        old = account.policy
        account.policy = replace(old, version=old.version + 1, **fields)
        if account.policy.ttl_ms < old.ttl_ms:
            account.older.append([old.ttl_ms, FOR_EVER])
        return account.policy

    def acknowledged(self, tenant: str, now: int) -> None:
        for entry in self.accounts[tenant].older:
            if entry[1] == FOR_EVER:
                entry[1] = now + entry[0] + self.times.w_ms

    def bury(self, stone: Tombstone, now: int) -> int:
        """Write a tombstone; returns the epoch that stands."""
        lmax = self.accounts[stone.tenant].lmax_ms(now)
        self.tombstones = [entry for entry in self.tombstones if entry[0] > now]
        if self.rules.buried(stone):
            self.tombstones.append((now + self.rules.window_ms(self.times, lmax, lmax), stone))
        return self.epoch

    def next_epoch(self, vacancy: str, now: int) -> Open:
        """Take an epoch's number, one a vacancy whoever asks, and all that its opening must know."""
        if vacancy != self.vacancy:
            self.vacancy = vacancy
            self.epoch += 1
        windows = {
            name: self.rules.window_ms(self.times, account.lmax_ms(now), account.policy.ttl_ms)
            for name, account in self.accounts.items()
        }
        if self.epoch == 1:  # a partition that SQL has never seen
            windows = {}
        stones = tuple(stone for until, stone in self.tombstones if until > now)
        return Open(vacancy, self.epoch, windows, stones)

    def record(self, entries: list[tuple[int, Event]]) -> None:
        """Fold events into the ledger."""
        for epoch, event in entries:
            self.committed.add((epoch, event))
            self.rows.append((epoch, event))
            known = known_from(usage_event(epoch, event), event[4])
            old = self.ledger.get(event[3])
            self.ledger[event[3]] = join(old, known) if old else known

    def has(self, epoch: int, event: Event) -> bool:
        """Tell whether the ledger has this event."""
        return (epoch, event) in self.committed


def usage_event(epoch: int, event: Event) -> UsageEvent:
    """Tell the event as the recorder would."""
    kind, tenant, at, lease, user, more = event
    tariff, reason = ("", more) if kind == "ended" else (more, "")
    return UsageEvent(0, epoch, 0, "", kind, tenant, at, lease, user, tariff, reason)
