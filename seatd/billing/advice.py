"""Which tariff, and how many seats: one tenant's month priced as it was, under Team, and under Agent.

The same people sit at the same times throughout; only the contract is supposed.  Prices are the month's own list's.
Nothing here changes a booking: it says what one would have cost, and whom it would have refused.
"""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from seatd.billing.amounts import exact_sum
from seatd.billing.demand import Demand, demand, refused, worth_asking
from seatd.billing.facts import TenantFacts
from seatd.billing.months import Month
from seatd.billing.rating import Charge, net_of, rate
from seatd.billing.supposition import on_agent, on_team, sitters
from seatd.billing.tenancy import charged_time
from seatd.catalogue.pricelist import Metric, PriceList
from seatd.model import AGENT_PRODUCT, TEAM_PRODUCT, Tariff

NUMBERS_MAX: Final = 24
_USERS_MAX: Final = 20_000
_BY_SEATS: Final = frozenset({Metric.BOOKED_PEAK, Metric.BOOKED_AVERAGE, Metric.USED_PEAK})
_BY_NAMES: Final = frozenset({Metric.DISTINCT_NAMED, Metric.NAMED_AVERAGE, Metric.BOOKED_PEAK})


@dataclass(frozen=True, slots=True)
class SeatNumber:
    """A number of Team seats: what it would have cost, and how many logins it would have refused."""

    seats: int
    net: Decimal
    refused: int


@dataclass(frozen=True, slots=True)
class Advice:
    """A month's seats, net and without add-ons, as they were and as they might have been.

    `team`: with as many seats as the peak wanted; `agent`: with everybody named who sat; None where the price list does
    not sell it.  `break_even_users`: from how many named users on a whole month of Agent costs more than one of Team at
    this peak; None where it never does, or the metrics do not compare.
    """

    month: Month
    tenant: str
    price_list: str
    currency: str
    charged: bool
    as_it_is: Decimal
    demand: Demand
    users: int
    team: Decimal | None
    agent: Decimal | None
    break_even_users: int | None
    numbers: tuple[SeatNumber, ...]


def advise(facts: TenantFacts, price_list: PriceList, month: Month, until_ms: int) -> Advice:
    """Reckon what a tenant's month of seats would cost under either tariff; an open month, as of `until_ms`."""
    facts = facts.until(until_ms)
    wanted = demand(facts, month)
    users = len(sitters(facts, month))
    return Advice(
        month=month,
        tenant=facts.tenant,
        price_list=price_list.version,
        currency=price_list.currency,
        charged=bool(charged_time(facts, month)),
        as_it_is=_seats_net(rate(facts, price_list, month, until_ms), None, price_list),
        demand=wanted,
        users=users,
        team=_team(facts, price_list, month, until_ms, wanted.peak),
        agent=_agent(facts, price_list, month, until_ms),
        break_even_users=_break_even(price_list, wanted.peak, users),
        numbers=tuple(
            SeatNumber(seats, net, refused(facts, month, seats))
            for seats in worth_asking(wanted, NUMBERS_MAX)
            if (net := _team(facts, price_list, month, until_ms, seats)) is not None
        ),
    )


def _team(
    facts: TenantFacts, price_list: PriceList, month: Month, until_ms: int, seats: int
) -> Decimal | None:
    if TEAM_PRODUCT not in price_list.products:
        return None
    return _seats_net(rate(on_team(facts, seats), price_list, month, until_ms), Tariff.TEAM, price_list)


def _agent(facts: TenantFacts, price_list: PriceList, month: Month, until_ms: int) -> Decimal | None:
    if AGENT_PRODUCT not in price_list.products:
        return None
    return _seats_net(rate(on_agent(facts, month), price_list, month, until_ms), Tariff.AGENT, price_list)


def _seats_net(charges: list[Charge], tariff: Tariff | None, price_list: PriceList) -> Decimal:
    """Add up the lines of the tariffs' own products, of one tariff or of both."""
    wanted = {
        product.id
        for product in price_list.products.values()
        if product.tariff and tariff in (None, product.tariff)
    }
    return exact_sum([Decimal("0.00"), *(each.net for each in charges if each.product in wanted)])


def _break_even(price_list: PriceList, peak: int, users: int) -> int | None:
    team, agent = price_list.products.get(TEAM_PRODUCT), price_list.products.get(AGENT_PRODUCT)
    if not team or not agent or not peak or team.metric not in _BY_SEATS or agent.metric not in _BY_NAMES:
        return None
    floating = net_of(team, Fraction(peak))
    # Volume tiers may fall where more is bought, so every number is looked at.
    last = min(_USERS_MAX, max(10 * peak, 2 * users, 1_000))
    return next((n for n in range(1, last + 1) if net_of(agent, Fraction(n)) > floating), None)
