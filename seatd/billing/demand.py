"""What the recorded logins say about seats: how many were wanted, and whom a smaller number would have refused.

Every login that got a seat is played again against a smaller number, first come first served: one that finds all
seats taken is refused, and takes none.  It neither waits nor comes again, which no record can tell.
"""

import heapq
from dataclasses import dataclass

from seatd.billing.facts import Lease, TenantFacts
from seatd.billing.months import Month
from seatd.billing.tenancy import open_seats, whole
from seatd.usage.intervals import first_at, maximum, quantile


@dataclass(frozen=True, slots=True)
class Demand:
    """What a month's logins asked of the seats; `denied` counts refusals as they were recorded."""

    peak: int
    p95: int
    logins: int
    denied: int


@dataclass(frozen=True, slots=True)
class Witness:
    """One user who sat at the instant of the peak, and since when."""

    user: str
    since_ms: int


def demand(facts: TenantFacts, month: Month) -> Demand:
    """Measure what a month's logins asked of the seats, service users aside."""
    seats = open_seats(facts, month)
    return Demand(
        peak=maximum(seats, whole(month)),
        p95=quantile(seats, whole(month), percent=95),
        logins=len(_logins(facts, month)),
        denied=sum(month.start_ms <= at_ms < month.end_ms for at_ms in facts.denials),
    )


def refused(facts: TenantFacts, month: Month, seats: int) -> int:
    """Count the month's logins that so many seats would have refused; O(n log n)."""
    turned_away = 0
    ends: list[int] = []
    for lease in _logins(facts, month):
        while ends and ends[0] <= lease.start_ms:
            heapq.heappop(ends)
        if len(ends) < seats:
            heapq.heappush(ends, lease.end_ms)
        else:
            turned_away += 1
    return turned_away


def peak_witnesses(facts: TenantFacts, month: Month) -> tuple[int | None, tuple[Witness, ...]]:
    """Tell when the month's peak was reached first, and who sat then; None and nobody where nobody sat."""
    seats = open_seats(facts, month)
    peak = maximum(seats, whole(month))
    at_ms = first_at(seats, peak, whole(month)) if peak else None
    if at_ms is None:
        return None, ()
    sat = (each for each in facts.leases if not each.service and each.start_ms <= at_ms < each.end_ms)
    return at_ms, tuple(Witness(each.user, each.start_ms) for each in sorted(sat, key=_by_user))


def worth_asking(found: Demand, most: int) -> tuple[int, ...]:
    """Choose which numbers of seats to play, falling from the peak past p95: at most `most` of them."""
    lowest = max(min(found.p95, found.peak) - 2, 1)
    numbers = range(found.peak, lowest - 1, -1)
    step = -(-len(numbers) // most) if numbers else 1
    return tuple(sorted({*numbers[::step], *(n for n in (found.p95,) if n)}, reverse=True)[:most])


def _logins(facts: TenantFacts, month: Month) -> list[Lease]:
    """Return the leases that were open in the month, in the order of coming."""
    return sorted(
        each
        for each in facts.leases
        if not each.service and each.start_ms < month.end_ms and each.end_ms > month.start_ms
    )


def _by_user(lease: Lease) -> tuple[str, int]:
    return lease.user, lease.start_ms
