"""When, within a month, a tenant was in which tariff, and how many seats were open.

Charges and the usage report both read a month through these; what is made of it is theirs.
"""

from itertools import pairwise

from seatd.billing.facts import TenantFacts
from seatd.billing.months import Month
from seatd.model import Tariff
from seatd.usage.intervals import FOREVER_MS, Intervals, Steps, count, intersect, union


def whole(month: Month) -> Intervals:
    """Return all of the month."""
    return ((month.start_ms, month.end_ms),)


def tariff_time(facts: TenantFacts, month: Month, tariff: Tariff | None = None) -> Intervals:
    """Return when in the month the tenant was in the tariff, or in any; trial included."""
    return _time(facts, month, {tariff} if tariff else set(Tariff), trial_too=True)


def charged_time(facts: TenantFacts, month: Month) -> Intervals:
    """Return when in the month the tenant was in a tariff and not on trial."""
    return _time(facts, month, set(Tariff), trial_too=False)


def open_seats(facts: TenantFacts, month: Month) -> Steps:
    """Return how many leases were open in the month at each instant, service users aside."""
    return count(
        (lease.start_ms, lease.end_ms)
        for lease in facts.leases
        if not lease.service and lease.start_ms < month.end_ms and lease.end_ms > month.start_ms
    )


def _time(facts: TenantFacts, month: Month, tariffs: set[Tariff], *, trial_too: bool) -> Intervals:
    # The last setting holds until something else is said.
    starts = [span.at_ms for span in facts.tariffs] + [FOREVER_MS]
    spans = zip(facts.tariffs, pairwise(starts), strict=True)
    found = union(
        interval for span, interval in spans if span.tariff in tariffs and (trial_too or not span.trial)
    )
    return intersect(found, whole(month))
