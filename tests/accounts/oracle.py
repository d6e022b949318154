"""The account plane in plain Python: one tenant, no SQL, no history beyond what a bill needs.

Written from the contract and not from the code.  Time only moves through `settle`, which lets what was scheduled
take effect; every change happens at `now_ms`, which never falls below the latest change.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from seatd.model import Tariff

# The first instants of months in Berlin, from February 2026 on: UTC+1, from April to October UTC+2.
MONTHS_MS = [
    int(datetime(2026 + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp() * 1000)
    - (2 if 3 <= month % 12 <= 9 else 1) * 3_600_000
    for month in range(1, 120)
]


def next_month_ms(at_ms: int) -> int:
    return next(start for start in MONTHS_MS if start > at_ms)


class No(Exception):
    """The refusal that is to come: its code."""


@dataclass
class Model:
    """What is to hold of one tenant."""

    now_ms: int
    changed_ms: int = 0
    created_ms: int = 0
    exists: bool = False
    name: str = ""
    ttl_ms: int = 300_000
    suspended_since_ms: int | None = None
    trial_until_ms: int | None = None
    """As it was last told, passed or to come."""
    tariff: Tariff | None = None
    tariff_since_ms: int = 0
    trial_end_ms: int | None = None
    """When the trial that runs now ends; none: no trial runs."""
    ran_out: Tariff | None = None
    """The tariff whose trial ran out, while none was set since."""
    booked: dict[str, int] = field(default_factory=dict)
    scheduled: dict[str, tuple[int, int]] = field(default_factory=dict)
    bound: dict[str, set[str]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    lines: list[tuple[object, ...]] = field(default_factory=list)
    """The history so far: (kind, at_ms, ...)."""

    def at(self, clock_ms: int) -> None:
        """Move to the instant at which a change would happen, and let what is due take effect."""
        self.now_ms = max(clock_ms, self.changed_ms)
        self.settle()

    def settle(self) -> None:
        for product, (at_ms, quantity) in sorted(self.scheduled.items(), key=lambda item: item[1][0]):
            if at_ms <= self.now_ms:
                del self.scheduled[product]
                self._book_line(product, quantity, at_ms)
                self.changed_ms = max(self.changed_ms, at_ms)
        if self.trial_end_ms is not None and self.trial_end_ms <= self.now_ms:
            self.changed_ms = max(self.changed_ms, self.trial_end_ms)
            self.ran_out = self.tariff
            self._tariff_line(None, self.trial_end_ms, trial=False)
            self.trial_end_ms = None

    def _book_line(self, product: str, quantity: int, at_ms: int) -> None:
        self.booked[product] = quantity
        self.lines.append(("booking", at_ms, product, quantity))

    def _tariff_line(self, tariff: Tariff | None, at_ms: int, *, trial: bool) -> None:
        self.tariff, self.tariff_since_ms = tariff, at_ms
        self.lines.append(("tariff", at_ms, tariff, trial))

    def change(self) -> None:
        self.changed_ms = self.now_ms

    # Tariffs

    def set_tariff(self, wanted: Tariff | None) -> bool:
        until = self.trial_until_ms
        end = until if wanted and until and until > self.now_ms else None
        if wanted == self.tariff and end == self.trial_end_ms:
            return False
        if wanted != self.tariff or (end is None) != (self.trial_end_ms is None):
            self._tariff_line(wanted, self.now_ms, trial=end is not None)
        self.trial_end_ms, self.ran_out = end, None
        self.change()
        return True

    def set_trial(self, until_ms: int | None) -> bool:
        if until_ms == self.trial_until_ms:
            return False
        if until_ms is not None and until_ms <= self.now_ms:
            raise No("invalid_request")
        self.trial_until_ms = until_ms
        self.change()
        if self.tariff is not None:
            self.set_tariff(self.tariff)
        elif self.ran_out is not None and until_ms is not None:
            self.set_tariff(self.ran_out)
        return True

    # Bookings

    def book(self, product: str, quantity: int, effective: str | None) -> bool:
        before = self.booked.get(product)
        now = quantity >= (before or 0) if effective is None else effective == "now"
        at_ms = self.now_ms if now else next_month_ms(self.now_ms)
        standing = self.scheduled.get(product)
        if before == quantity and standing is None:
            return False
        if not now and standing == (at_ms, quantity):
            return False
        if quantity < len(self.bound.get(product, ())):
            raise No("bindings_exceed")
        self.scheduled.pop(product, None)
        if before != quantity:
            if now:
                self._book_line(product, quantity, at_ms)
            else:
                self.scheduled[product] = (at_ms, quantity)
        self.change()
        return True

    # Bindings

    def bind(self, product: str, user: str) -> bool:
        users = self.bound.setdefault(product, set())
        if user in users:
            return False
        limits = [self.booked[product]] if product in self.booked else []
        if product == "agent" and not limits:
            limits = [0]
        if product in self.scheduled:
            limits.append(self.scheduled[product][1])
        if limits and len(users) >= min(limits):
            raise No("no_booking_left")
        users.add(user)
        self.lines.append(("bound", self.now_ms, product, user))
        self.change()
        return True

    def unbind(self, product: str, user: str) -> bool:
        users = self.bound.setdefault(product, set())
        if user not in users:
            return False
        users.discard(user)
        self.lines.append(("unbound", self.now_ms, product, user))
        self.change()
        return True

    def named(self) -> dict[str, tuple[str, ...]]:
        users = sorted(set().union(*self.bound.values())) if self.bound else []
        return {user: tuple(sorted(p for p, of in self.bound.items() if user in of)) for user in users}
