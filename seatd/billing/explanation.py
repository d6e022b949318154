"""Why a month differs from the one before: the lines of both, product by product, in sentences.

Each difference is the exact difference of the nets, so that together they make up the whole; a sentence says what
changed about the product: its quantity, the part of the month, the price.  Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from operator import attrgetter
from typing import Final

from seatd.billing.amounts import exact_sum, plain
from seatd.billing.rating import Charge
from seatd.catalogue.pricelist import Metric, PriceList

_COUNTED: Final[Mapping[Metric, str]] = {
    Metric.BOOKED_PEAK: "booked at the most",
    Metric.USED_PEAK: "in use at the most",
    Metric.DISTINCT_NAMED: "named",
    Metric.BOOKED_AVERAGE: "booked on average",
    Metric.NAMED_AVERAGE: "named on average",
    Metric.SEAT_HOURS: "hours",
    Metric.FLAT: "booked",
    Metric.METERED: "delivered",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One product's part of the difference between two months."""

    product: str
    before: Decimal
    after: Decimal
    sentence: str

    @property
    def difference(self) -> Decimal:
        """Return how much more the later month costs."""
        return exact_sum([self.after, -self.before])


@dataclass(frozen=True, slots=True)
class _Part:
    """All of one product's lines in a month, its tiers together."""

    charge: Charge
    quantity: Decimal
    net: Decimal
    prices: tuple[str, ...]


def explain(
    before: Iterable[Charge], after: Iterable[Charge], price_list: PriceList
) -> tuple[Difference, ...]:
    """Compare one tenant's lines of two months, both sorted as `rate` does; what is the same is left out."""
    old, new = _parts(before), _parts(after)
    found = (
        _difference(product, old.get(product), new.get(product), price_list)
        for product in sorted({*old, *new})
    )
    return tuple(each for each in found if each)


def _parts(charges: Iterable[Charge]) -> dict[str, _Part]:
    parts = {}
    for product, lines in groupby(charges, key=attrgetter("product")):
        of_it = list(lines)
        parts[product] = _Part(
            charge=of_it[0],
            quantity=exact_sum([each.quantity for each in of_it]),
            net=exact_sum([each.net for each in of_it]),
            prices=tuple(each.unit_price.text for each in of_it),
        )
    return parts


def _difference(
    product: str, old: _Part | None, new: _Part | None, price_list: PriceList
) -> Difference | None:
    name = price_list.products[product].name if product in price_list.products else product
    before, after = old.net if old else Decimal("0.00"), new.net if new else Decimal("0.00")
    if old and new:
        if before == after:
            return None
        reasons = "; ".join(_reasons(old, new)) or "it is reckoned differently"
        return Difference(product, before, after, f"{name}: {reasons}.")
    if new:
        return Difference(product, before, after, f"{name} is new: {_how_much(new)}.")
    if old:
        return Difference(product, before, after, f"{name} is gone: last month it was {_how_much(old)}.")
    return None


def _how_much(part: _Part) -> str:
    return f"{plain(part.quantity)} {_COUNTED[part.charge.metric]}{_for_a_part(part.charge.weight)}"


def _for_a_part(weight: Fraction) -> str:
    return "" if weight == 1 else f", for {weight} of the days"


def _reasons(old: _Part, new: _Part) -> Iterable[str]:
    if old.charge.metric != new.charge.metric:
        yield f"{_how_much(new)} in place of {_how_much(old)}"
    elif old.quantity != new.quantity:
        counted = _COUNTED[new.charge.metric]
        yield f"{plain(new.quantity)} {counted} in place of {plain(old.quantity)}"
    if old.charge.weight != new.charge.weight:
        yield f"charged for {_part_of(new.charge.weight)} in place of {_part_of(old.charge.weight)}"
    if old.prices != new.prices and (old.charge.price_list != new.charge.price_list):
        yield f"price list {new.charge.price_list} in place of {old.charge.price_list}"


def _part_of(weight: Fraction) -> str:
    return "all days" if weight == 1 else f"{weight} of the days"
