"""What a tenant's lines add up to: net, VAT once per rate, gross."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from seatd.billing.amounts import exact_sum, round_half_up
from seatd.billing.rating import Charge
from seatd.catalogue.pricelist import Price


@dataclass(frozen=True, slots=True)
class VatTotal:
    """The lines of one VAT rate: their net, and the tax on the sum."""

    vat_rate: Price
    net: Decimal
    vat: Decimal


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums of one tenant's month, two decimals each; `by_rate` rises by rate."""

    tenant: str
    currency: str
    net: Decimal
    vat: Decimal
    gross: Decimal
    by_rate: tuple[VatTotal, ...]


def totals(charges: Iterable[Charge]) -> list[Totals]:
    """Add up charges, of one price list, by tenant; sorted by code point of the tenant."""
    tenants: dict[str, list[Charge]] = {}
    for charge in charges:
        tenants.setdefault(charge.tenant, []).append(charge)
    return [_totals(tenants[tenant]) for tenant in sorted(tenants)]


def _totals(charges: list[Charge]) -> Totals:
    # Two names may stand for one rate, and 19 is 19.0: the tax is reckoned once for both.
    rates: dict[Decimal, list[Charge]] = {}
    for charge in charges:
        rates.setdefault(charge.vat_rate.value, []).append(charge)
    by_rate = tuple(_vat_total(rates[rate]) for rate in sorted(rates))
    net = exact_sum([each.net for each in by_rate])
    vat = exact_sum([each.vat for each in by_rate])
    gross = exact_sum([net, vat])
    return Totals(charges[0].tenant, charges[0].currency, net, vat, gross, by_rate)


def _vat_total(charges: list[Charge]) -> VatTotal:
    rate = charges[0].vat_rate
    net = exact_sum([charge.net for charge in charges])
    return VatTotal(rate, net, round_half_up(Fraction(net) * Fraction(rate.value) / 100, 2))
