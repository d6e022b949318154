"""What would have been: a tenant's facts with another tariff or other numbers of seats, all else as it was.

Who sat when is never changed: these suppose another contract for the same work.  What it costs is rating's, how many
logins fewer seats would have refused is demand's.
"""

from dataclasses import replace
from typing import Final

from seatd.billing.facts import TenantFacts
from seatd.billing.months import Month
from seatd.model import AGENT_PRODUCT, TEAM_PRODUCT, Tariff
from seatd.usage.intervals import FOREVER_MS, Intervals, Steps

_EVER_MS: Final = -FOREVER_MS


def sitters(facts: TenantFacts, month: Month) -> frozenset[str]:
    """Name the users who sat at an instant of the month, service users aside."""
    return frozenset(
        lease.user
        for lease in facts.leases
        if not lease.service and lease.start_ms < month.end_ms and lease.end_ms > month.start_ms
    )


def with_booked(facts: TenantFacts, product: str, quantity: int) -> TenantFacts:
    """Suppose another quantity of a product wherever some was booked; where none was, none is."""
    booked: Steps = tuple((at_ms, quantity if was else 0) for at_ms, was in facts.bookings.get(product, ()))
    return replace(facts, bookings={**facts.bookings, product: booked})


def on_team(facts: TenantFacts, seats: int) -> TenantFacts:
    """Suppose the Team tariff whenever there was one, with so many seats."""
    bookings = {**facts.bookings, TEAM_PRODUCT: ((_EVER_MS, seats),)}
    return replace(_under(facts, Tariff.TEAM), bookings=bookings)


def on_agent(facts: TenantFacts, month: Month) -> TenantFacts:
    """Suppose the Agent tariff whenever there was one, and everybody named who sat in the month."""
    users, always = sitters(facts, month), ((month.start_ms, month.end_ms),)
    named: dict[str, Intervals] = dict.fromkeys(sorted(users), always)
    return replace(
        _under(facts, Tariff.AGENT),
        bookings={**facts.bookings, AGENT_PRODUCT: ((_EVER_MS, len(users)),)},
        bindings={**facts.bindings, AGENT_PRODUCT: named},
    )


def _under(facts: TenantFacts, tariff: Tariff) -> TenantFacts:
    tariffs = tuple(span._replace(tariff=tariff) if span.tariff else span for span in facts.tariffs)
    return replace(facts, tariffs=tariffs)
