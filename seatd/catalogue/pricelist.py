"""What a price list says, once it has been read: products, tiers, prices, and which list is in force.

All of it is frozen and decimal.  How the TOML is checked stands in `pricelist_toml`; what a month
costs under a list is rating's.  Nothing here reads files or knows today's date.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

from seatd.model import Tariff


class Metric(StrEnum):
    """What of a month's use a product is charged by (contract: BILLING.md, Metrics)."""

    BOOKED_PEAK = "booked_peak"
    USED_PEAK = "used_peak"
    DISTINCT_NAMED = "distinct_named"
    BOOKED_AVERAGE = "booked_average"
    NAMED_AVERAGE = "named_average"
    SEAT_HOURS = "seat_hours"
    FLAT = "flat"
    METERED = "metered"


class ProductScope(StrEnum):
    """For whom a product is: a named user, or the whole tenant."""

    NAMED = "named"
    TENANT = "tenant"


class Tiering(StrEnum):
    """How tiers price a quantity: each its own part, or one the whole."""

    GRADUATED = "graduated"
    VOLUME = "volume"


class PriceListError(ValueError):
    """A price list is not valid, or none is in force.

    `source` names the list (a file), `line` is counted from 1 and None where it is not known, `place`
    is the dotted key.
    """

    def __init__(self, reason: str, *, source: str = "", line: int | None = None, place: str = "") -> None:
        """Make the error from a reason and where it was found."""
        self.reason, self.source, self.line, self.place = reason, source, line, place
        where = f"{source}:{line}" if source and line else source
        super().__init__(": ".join(part for part in (where, place, reason) if part))


@dataclass(frozen=True, slots=True)
class Price:
    """A decimal as the price list writes it: `text` is printed, `value` is reckoned with."""

    text: str
    value: Decimal


@dataclass(frozen=True, slots=True)
class Tier:
    """A unit price up to and including a quantity; `up_to` None is without end."""

    up_to: Decimal | None
    unit_price: Price


@dataclass(frozen=True, slots=True)
class Product:
    """One thing that is sold.

    A single price is one tier without end and `tiering` None.  `tariff` is set for the seats of that
    tariff only; `always` takes the whole month in place of charged time; `vat_rate` is in percent.
    """

    id: str
    name: str
    tariff: Tariff | None
    scope: ProductScope
    metric: Metric
    tiering: Tiering | None
    tiers: tuple[Tier, ...]
    vat: str
    vat_rate: Price
    always: bool


@dataclass(frozen=True, slots=True)
class PriceList:
    """All prices from a date on, until a newer list is in force.

    `timezone` is an IANA name: it decides where months begin.  `products` is by id, `vat` by name.
    """

    version: str
    valid_from: date
    currency: str
    timezone: str
    vat: Mapping[str, Price] = field(default_factory=dict)
    products: Mapping[str, Product] = field(default_factory=dict)


def in_force(price_lists: Iterable[PriceList], first_day: date) -> PriceList:
    """Return the newest list that is valid on the first day of a month.

    Raises `PriceListError` where none is, or where two of that date leave it open.
    """
    period = f"{first_day:%Y-%m}"
    valid = [each for each in price_lists if each.valid_from <= first_day]
    newest = max((each.valid_from for each in valid), default=None)
    found = [each for each in valid if each.valid_from == newest]
    if not found:
        raise PriceListError(f"no price list is in force in {period}")
    if len(found) > 1:
        versions = ", ".join(each.version for each in found)
        raise PriceListError(
            f"more than one price list is valid from {newest} ({versions}), in force in {period}"
        )
    return found[0]
