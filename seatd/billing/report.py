"""What one tenant used in a month: the line of the usage report, priced by nobody.

Always over the whole month, service users aside.  Who is charged what for it is rating's.
"""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from seatd.billing.amounts import round_half_up
from seatd.billing.facts import TenantFacts
from seatd.billing.months import Month
from seatd.billing.tenancy import open_seats, tariff_time, whole
from seatd.model import TEAM_PRODUCT, Tariff
from seatd.usage.intervals import (
    Intervals,
    Steps,
    first_at,
    integral,
    intersect,
    length,
    maximum,
    quantile,
    where_at_least,
)

_HOUR_MS: Final = 3_600_000
_MINUTE_MS: Final = 60_000
_PLACES: Final = 4


@dataclass(frozen=True, slots=True)
class Usage:
    """One line of the usage report (contract: BILLING.md, Usage).

    `used_peak_at_ms` is None where nobody sat.  `seat_hours` and `full_minutes` have four decimals.
    """

    month: Month
    tenant: str
    used_peak: int
    used_peak_at_ms: int | None
    booked_peak: int
    seat_hours: Decimal
    p95: int
    distinct_users: int
    denied: int
    full_minutes: Decimal


def usage(facts: TenantFacts, month: Month, until_ms: int | None = None) -> Usage | None:
    """Return the tenant's line; None where it had neither a tariff nor a lease in the month.

    With `until_ms`, now, the month is still open: what was used is measured up to now.
    """
    if until_ms is not None:
        facts = facts.until(until_ms)
    if not tariff_time(facts, month) and not _users(facts, month, service_too=True):
        return None
    all_month, seats = _measured(month, until_ms), open_seats(facts, month)
    team_time = intersect(tariff_time(facts, month, Tariff.TEAM), all_month)
    booked: Steps = facts.bookings.get(TEAM_PRODUCT, ())
    peak = maximum(seats, all_month)
    full_ms = length(where_at_least(seats, booked, team_time))
    return Usage(
        month=month,
        tenant=facts.tenant,
        used_peak=peak,
        used_peak_at_ms=first_at(seats, peak, all_month) if peak else None,
        booked_peak=maximum(booked, team_time),
        seat_hours=round_half_up(Fraction(integral(seats, all_month), _HOUR_MS), _PLACES),
        p95=quantile(seats, all_month, percent=95),
        distinct_users=len(_users(facts, month, service_too=False)),
        denied=sum(month.start_ms <= at_ms < month.end_ms for at_ms in facts.denials),
        full_minutes=round_half_up(Fraction(full_ms, _MINUTE_MS), _PLACES),
    )


def _measured(month: Month, until_ms: int | None) -> Intervals:
    if until_ms is None or until_ms >= month.end_ms:
        return whole(month)
    return ((month.start_ms, until_ms),) if until_ms > month.start_ms else ()


def _users(facts: TenantFacts, month: Month, *, service_too: bool) -> set[str]:
    """Return who had a lease open at an instant of the month."""
    return {
        lease.user
        for lease in facts.leases
        if lease.start_ms < month.end_ms
        and lease.end_ms > month.start_ms
        and (service_too or not lease.service)
    }
