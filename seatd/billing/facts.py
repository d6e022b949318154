"""What is known of one tenant: all that rating and the usage report ask about.

Frozen, in order of time, contradictions already refused.  How it is gathered is `history`'s; months and
prices are not known here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from seatd.model import Tariff
from seatd.usage.intervals import FOREVER_MS, Intervals, Steps


class Lease(NamedTuple):
    """One lease, `[start_ms, end_ms)`; an open one ends at `FOREVER_MS`."""

    start_ms: int
    end_ms: int
    user: str
    service: bool


class TariffSpan(NamedTuple):
    """From `at_ms` on: a tariff or none, on trial or not."""

    at_ms: int
    tariff: Tariff | None
    trial: bool


class MeterReading(NamedTuple):
    """One delivery of a metered product."""

    at_ms: int
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class TenantFacts:
    """All that is known of one tenant, in order of time.

    `bookings`: booked quantity by product.  `bindings`: by product and user, when the user was named.
    `denials`: their instants.  `meters`: readings by product, each id once.
    """

    tenant: str
    tariffs: tuple[TariffSpan, ...] = ()
    bookings: Mapping[str, Steps] = field(default_factory=dict)
    bindings: Mapping[str, Mapping[str, Intervals]] = field(default_factory=dict)
    leases: tuple[Lease, ...] = ()
    denials: tuple[int, ...] = ()
    meters: Mapping[str, tuple[MeterReading, ...]] = field(default_factory=dict)

    def until(self, now_ms: int) -> "TenantFacts":
        """Return the facts as they stood at an instant: nothing later has happened, or ended, yet."""
        return TenantFacts(
            self.tenant,
            tariffs=tuple(span for span in self.tariffs if span.at_ms <= now_ms),
            bookings={
                product: tuple(step for step in booked if step[0] <= now_ms)
                for product, booked in self.bookings.items()
            },
            bindings={
                product: {
                    user: tuple((start, _open(end, now_ms)) for start, end in spans if start <= now_ms)
                    for user, spans in users.items()
                }
                for product, users in self.bindings.items()
            },
            leases=tuple(
                lease._replace(end_ms=_open(lease.end_ms, now_ms))
                for lease in self.leases
                if lease.start_ms <= now_ms
            ),
            denials=tuple(at_ms for at_ms in self.denials if at_ms <= now_ms),
            meters={
                product: tuple(reading for reading in readings if reading.at_ms <= now_ms)
                for product, readings in self.meters.items()
            },
        )


def _open(end_ms: int, now_ms: int) -> int:
    return end_ms if end_ms <= now_ms else FOREVER_MS
