"""What one tenant's month costs under one price list: facts in, priced lines out.

Pure: the same facts, price list and month give the same lines, anywhere.  The metric that a price list
names decides the quantity, days decide the weight, tiers split it, and each line is rounded once.
Whether a month is closed, and who sees the lines, is not known here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Final, NamedTuple

from seatd.billing.amounts import exact_sum, round_half_up
from seatd.billing.facts import TenantFacts
from seatd.billing.months import Month
from seatd.billing.tenancy import charged_time, open_seats, tariff_time, whole
from seatd.catalogue.pricelist import Metric, Price, PriceList, Product, Tier, Tiering
from seatd.usage.intervals import (
    Intervals,
    Steps,
    covers,
    hull,
    integral,
    intersect,
    length,
    maximum,
)

_HOUR_MS: Final = 3_600_000
# More than any quantity or tier has: rounding to it is exact.
_ALL_PLACES: Final = 12
_AVERAGE_PLACES: Final = 4
_CENT_PLACES: Final = 2


@dataclass(frozen=True, slots=True)
class Charge:
    """One priced line of a month.

    `from_ms`, `to_ms`: the hull of the time charged.  `tier` counts from 0.  `weight` is a part of 1,
    `net` has two decimals; `unit_price` and `vat_rate` (percent) print as the price list writes them.
    """

    month: Month
    tenant: str
    product: str
    metric: Metric
    tier: int
    from_ms: int
    to_ms: int
    weight: Fraction
    quantity: Decimal
    unit_price: Price
    net: Decimal
    vat_rate: Price
    currency: str
    price_list: str


def rate(
    facts: TenantFacts, price_list: PriceList, month: Month, until_ms: int | None = None
) -> list[Charge]:
    """Price one tenant's month; the lines are sorted by product, then tier.

    `month` is to be in the price list's time zone.  With `until_ms`, now, the month is still open: it is
    rated as if nothing changed after now, and hours count up to now.  Products that the list does not
    know are passed over.
    """
    if until_ms is not None:
        facts = facts.until(until_ms)
    return _lines(_Use(facts, month, month.end_ms if until_ms is None else until_ms), price_list)


def project(facts: TenantFacts, price_list: PriceList, month: Month, until_ms: int) -> list[Charge]:
    """Price an open month as it looks to end: what is decided for later comes, hours and deliveries go on as so far.

    No bill: a forecast, sorted as `rate` sorts.
    """
    so_far = facts.until(until_ms)
    decided = replace(so_far, tariffs=facts.tariffs, bookings=facts.bookings, bindings=facts.bindings)
    return _lines(_Use(decided, month, until_ms, goes_on=True), price_list)


def net_of(product: Product, quantity: Fraction) -> Decimal:
    """Price a quantity of a product over a whole month, all its tiers together."""
    nets = [
        round_half_up(part * Fraction(product.tiers[tier].unit_price.value), _CENT_PLACES)
        for tier, part in _parts(product, quantity)
    ]
    return exact_sum([Decimal("0.00"), *nets])


def _lines(use: "_Use", price_list: PriceList) -> list[Charge]:
    return [
        charge
        for product in sorted(price_list.products)
        for charge in _charges(use, price_list.products[product], price_list)
    ]


class _Use:
    """A tenant's month, measured as products ask; hours count up to `hours_end_ms`.

    Where it `goes_on`, what adds up by the hour is taken to do so at the same pace to the month's end.
    """

    def __init__(self, facts: TenantFacts, month: Month, hours_end_ms: int, *, goes_on: bool = False) -> None:
        self.facts, self.month = facts, month
        self._hours_end_ms = hours_end_ms
        self._goes_on = goes_on

    @cached_property
    def charged(self) -> Intervals:
        return charged_time(self.facts, self.month)

    @cached_property
    def seats(self) -> Steps:
        return open_seats(self.facts, self.month)

    @property
    def hours(self) -> Intervals:
        return intersect(((self.month.start_ms, self._hours_end_ms),), whole(self.month))

    def to_the_end(self, so_far: Fraction, over: Intervals) -> Fraction:
        elapsed = length(intersect(over, self.hours)) if self._goes_on else 0
        return so_far * Fraction(length(over), elapsed) if elapsed else so_far

    def booked(self, product: str) -> Steps:
        return self.facts.bookings.get(product, ())

    def named(self, product: str, over: Intervals) -> Iterator[Intervals]:
        """Yield, for every user that was named for the product, when that was."""
        for bound in self.facts.bindings.get(product, {}).values():
            if times := intersect(bound, over):
                yield times


class _Span(NamedTuple):
    """The time that a product is charged over, its hull as printed, and its weight."""

    over: Intervals
    hull: tuple[int, int]
    weight: Fraction


def _charges(use: _Use, product: Product, price_list: PriceList) -> Iterator[Charge]:
    span = _span(use, product)
    if span is None:
        return
    quantity = _QUANTITIES[product.metric](use, product.id, span.over)
    for tier, part in _parts(product, quantity):
        price = product.tiers[tier].unit_price
        yield Charge(
            month=use.month,
            tenant=use.facts.tenant,
            product=product.id,
            metric=product.metric,
            tier=tier,
            from_ms=span.hull[0],
            to_ms=span.hull[1],
            weight=span.weight,
            quantity=round_half_up(part, _ALL_PLACES),
            unit_price=price,
            net=round_half_up(part * Fraction(price.value) * span.weight, _CENT_PLACES),
            vat_rate=product.vat_rate,
            currency=price_list.currency,
            price_list=price_list.version,
        )


def _span(use: _Use, product: Product) -> _Span | None:
    """Return the product's time in the month; None where it has none."""
    base = whole(use.month) if product.always else use.charged
    over, weight = base, Fraction(1)
    if product.tariff:
        over = intersect(base, tariff_time(use.facts, use.month, product.tariff))
        if over and product.metric in _WEIGHTED:
            weight = Fraction(use.month.days(over), use.month.days(base))
    shown = hull(base if product.always else over)
    return _Span(over, shown, weight) if over and shown else None


def _parts(product: Product, quantity: Fraction) -> Iterator[tuple[int, Fraction]]:
    """Yield `(tier, quantity)` for every tier that prices a part of the quantity."""
    if not quantity:
        return
    if product.tiering is not Tiering.GRADUATED:
        yield next((i, quantity) for i, tier in enumerate(product.tiers) if _reaches(tier, quantity))
        return
    below = Fraction(0)
    for i, tier in enumerate(product.tiers):
        top = quantity if tier.up_to is None else min(quantity, Fraction(tier.up_to))
        if top > below:
            yield i, top - below
        below = top


def _reaches(tier: Tier, quantity: Fraction) -> bool:
    return tier.up_to is None or quantity <= Fraction(tier.up_to)


def _rounded(value: Fraction) -> Fraction:
    return Fraction(round_half_up(value, _AVERAGE_PLACES))


def _booked_peak(use: _Use, product: str, over: Intervals) -> Fraction:
    return Fraction(maximum(use.booked(product), over))


def _used_peak(use: _Use, _product: str, over: Intervals) -> Fraction:
    return Fraction(maximum(use.seats, over))


def _distinct_named(use: _Use, product: str, over: Intervals) -> Fraction:
    return Fraction(sum(1 for _ in use.named(product, over)))


def _booked_average(use: _Use, product: str, over: Intervals) -> Fraction:
    return _rounded(Fraction(integral(use.booked(product), over), use.month.length_ms))


def _named_average(use: _Use, product: str, over: Intervals) -> Fraction:
    return _rounded(Fraction(sum(map(length, use.named(product, over))), use.month.length_ms))


def _seat_hours(use: _Use, _product: str, over: Intervals) -> Fraction:
    hours = Fraction(integral(use.seats, intersect(over, use.hours)), _HOUR_MS)
    return _rounded(use.to_the_end(hours, over))


def _flat(use: _Use, product: str, over: Intervals) -> Fraction:
    return Fraction(1 if maximum(use.booked(product), over) else 0)


def _metered(use: _Use, product: str, over: Intervals) -> Fraction:
    readings = use.facts.meters.get(product, ())
    delivered = Fraction(exact_sum([each.quantity for each in readings if covers(over, each.at_ms)]))
    expected = use.to_the_end(delivered, over)
    return delivered if expected == delivered else _rounded(expected)


_QUANTITIES: Final[Mapping[Metric, Callable[[_Use, str, Intervals], Fraction]]] = {
    Metric.BOOKED_PEAK: _booked_peak,
    Metric.USED_PEAK: _used_peak,
    Metric.DISTINCT_NAMED: _distinct_named,
    Metric.BOOKED_AVERAGE: _booked_average,
    Metric.NAMED_AVERAGE: _named_average,
    Metric.SEAT_HOURS: _seat_hours,
    Metric.FLAT: _flat,
    Metric.METERED: _metered,
}
_WEIGHTED: Final = frozenset({Metric.BOOKED_PEAK, Metric.USED_PEAK, Metric.DISTINCT_NAMED})
