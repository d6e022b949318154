"""What happened, gathered from events in any order: the facts of each tenant that a month is rated by.

A `History` takes events one at a time, from files or from rows of the ledger, and refuses those that
contradict each other.  Of two settings of the same thing at one instant the later added wins; leases,
denials and meter readings are known by their ids and count once.  Months, prices and file formats
are not known here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from seatd.billing.events import (
    Booked,
    Bound,
    Denied,
    Event,
    Metered,
    SeatEnded,
    SeatStarted,
    TariffSet,
)
from seatd.billing.facts import Lease, MeterReading, TariffSpan, TenantFacts
from seatd.billing.packing import (
    end_of,
    has_start,
    packed_end,
    packed_start,
    same_start,
    start_of,
    unpacked,
)
from seatd.model import Tariff
from seatd.usage.intervals import FOREVER_MS, Intervals, steps, union


class Place(NamedTuple):
    """Where an event stands: a file's name and a line from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class HistoryError(ValueError):
    """An event is malformed or contradicts another; `place` is its file and line, where it has one."""

    def __init__(self, reason: str, place: Place | None = None) -> None:
        """Make the error from a reason and the line that gave it."""
        self.reason, self.place = reason, place
        super().__init__(f"{place}: {reason}" if place else reason)


@dataclass(slots=True)
class _TenantRecord:
    """One tenant's events as they come in; settings by what they set, then by instant."""

    tariffs: dict[int, tuple[Tariff | None, bool]] = field(default_factory=dict)
    bookings: dict[str, dict[int, int]] = field(default_factory=dict)
    bindings: dict[str, dict[str, dict[int, bool]]] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    """By id, packed: there may be millions."""
    denials: set[tuple[int, str, str]] = field(default_factory=set)
    meters: dict[str, dict[str, MeterReading]] = field(default_factory=dict)


class History:
    """Events of any number of tenants, added in any order.

    Add them all, then `check()`, then ask for `facts` tenant by tenant: only one tenant's facts need
    be in memory beside the record.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        """Make a history; events without a place may be given at once."""
        self._tenants: dict[str, _TenantRecord] = {}
        self._ends_without_start: dict[tuple[str, str], Place | None] = {}
        self._products: dict[str, Place | None] = {}
        self._users: list[str] = []
        self._numbers: dict[str, int] = {}
        for event in events:
            self.add(event)

    def add(self, event: Event, place: Place | None = None) -> None:
        """Take one event; `HistoryError` where it contradicts an earlier one, and nothing changes."""
        record = self._tenants.get(event.tenant)
        if record is None:
            record = self._tenants[event.tenant] = _TenantRecord()
        self._ADD[type(event)](self, record, event, place)

    def check(self) -> None:
        """Raise `HistoryError` for an end without a start: only the last line can tell."""
        for (tenant, lease), place in self._ends_without_start.items():
            raise HistoryError(f"lease {lease!r} of {tenant!r} ends, and was never started", place)

    def tenants(self) -> list[str]:
        """Return every tenant that an event names, sorted by code point."""
        return sorted(self._tenants)

    def products(self) -> Mapping[str, Place | None]:
        """Return every product that an event names, with the place that named it first."""
        return self._products

    def facts(self, tenant: str) -> TenantFacts:
        """Add up what is known of one tenant; an unknown one has no facts."""
        record = self._tenants.get(tenant) or _TenantRecord()
        return TenantFacts(
            tenant,
            tariffs=tuple(TariffSpan(at, *record.tariffs[at]) for at in sorted(record.tariffs)),
            bookings={product: steps(settings) for product, settings in record.bookings.items()},
            bindings={
                product: {user: _bound_intervals(settings) for user, settings in users.items()}
                for product, users in record.bindings.items()
            },
            leases=tuple(_leases(record.leases.values(), self._users)),
            denials=tuple(sorted(at for at, _, _ in record.denials)),
            meters={product: tuple(sorted(each.values())) for product, each in record.meters.items()},
        )

    def all_facts(self) -> Iterator[TenantFacts]:
        """Yield the facts of every tenant, sorted by code point."""
        for tenant in self.tenants():
            yield self.facts(tenant)

    def _add_tariff(self, record: _TenantRecord, event: TariffSet, _place: Place | None) -> None:
        record.tariffs[event.at_ms] = (event.tariff, event.trial)

    def _add_booked(self, record: _TenantRecord, event: Booked, place: Place | None) -> None:
        self._products.setdefault(event.product, place)
        record.bookings.setdefault(event.product, {})[event.at_ms] = event.quantity

    def _add_bound(self, record: _TenantRecord, event: Bound, place: Place | None) -> None:
        self._products.setdefault(event.product, place)
        users = record.bindings.setdefault(event.product, {})
        users.setdefault(event.user, {})[event.at_ms] = event.bound

    def _add_started(self, record: _TenantRecord, event: SeatStarted, place: Place | None) -> None:
        new = packed_start(event.at_ms, self._number_of(event.user), event.tariff)
        known = record.leases.setdefault(event.lease, new)
        if known == new:
            return
        if has_start(known):
            if not same_start(known, new):
                raise HistoryError(f"lease {event.lease!r} was already started, with other content", place)
            record.leases[event.lease] = known | new
            return
        if (end_ms := end_of(known)) is not None and end_ms < event.at_ms:
            end_place = self._ends_without_start[event.tenant, event.lease]
            beside = f" ({end_place})" if end_place else ""
            raise HistoryError(f"lease {event.lease!r} starts after its end{beside}", place)
        record.leases[event.lease] = known | new
        self._ends_without_start.pop((event.tenant, event.lease), None)

    def _number_of(self, user: str) -> int:
        number = self._numbers.get(user)
        if number is None:
            number = self._numbers[user] = len(self._users)
            self._users.append(user)
        return number

    def _add_ended(self, record: _TenantRecord, event: SeatEnded, place: Place | None) -> None:
        known = record.leases.get(event.lease, 0)
        end_ms = end_of(known)
        if end_ms is not None:
            if end_ms != event.at_ms:
                raise HistoryError(f"lease {event.lease!r} already ended, at another instant", place)
            return
        if not has_start(known):
            self._ends_without_start[event.tenant, event.lease] = place
        elif event.at_ms < start_of(known):
            raise HistoryError(f"lease {event.lease!r} ends before its start", place)
        record.leases[event.lease] = known | packed_end(event.at_ms)

    def _add_denied(self, record: _TenantRecord, event: Denied, _place: Place | None) -> None:
        record.denials.add((event.at_ms, event.user, event.reason))

    def _add_metered(self, record: _TenantRecord, event: Metered, place: Place | None) -> None:
        reading = MeterReading(event.at_ms, event.quantity)
        known = record.meters.setdefault(event.product, {}).setdefault(event.id, reading)
        if known != reading:
            raise HistoryError(
                f"{event.product!r} was already metered as {event.id!r}, with other content", place
            )
        self._products.setdefault(event.product, place)

    _ADD: ClassVar[Mapping[type, Callable[..., None]]] = {
        TariffSet: _add_tariff,
        Booked: _add_booked,
        Bound: _add_bound,
        SeatStarted: _add_started,
        SeatEnded: _add_ended,
        Denied: _add_denied,
        Metered: _add_metered,
    }


def _bound_intervals(settings: Mapping[int, bool]) -> Intervals:
    changes = sorted(settings.items())
    ends = [at_ms for at_ms, _ in changes[1:]] + [FOREVER_MS]
    return union((at_ms, end) for (at_ms, bound), end in zip(changes, ends, strict=True) if bound)


def _leases(packed: Iterable[int], users: Sequence[str]) -> Iterator[Lease]:
    """Yield the leases that were ever open: one that ends as it starts does not exist."""
    for lease in packed:
        start_ms, end_ms, user, service = unpacked(lease)
        if start_ms < end_ms:
            yield Lease(start_ms, end_ms, users[user], service)
