"""Whether price lists know every product that a history names: nothing used goes unpriced by mistake.

A history may reach over years, and so over several price lists: a product that any of them knows is
known.  What is booked, named or metered within the month must be on the list that is in force.  The
service itself does not ask: to it, a product that no list knows is a named add-on.
"""

from collections.abc import Iterable, Iterator

from seatd.billing.facts import TenantFacts
from seatd.billing.history import History, HistoryError
from seatd.billing.months import Month
from seatd.billing.tenancy import whole
from seatd.catalogue.pricelist import PriceList
from seatd.model import SERVICE_PRODUCT
from seatd.usage.intervals import covers, intersect, maximum


def check_products(
    history: History, price_lists: Iterable[PriceList], in_force: PriceList, month: Month
) -> None:
    """Raise `HistoryError`, with the line that names it first, for a product without a price.

    Bookings of `service` and bindings to it are no product's; metering it is an error.
    """
    known = {product for price_list in price_lists for product in price_list.products}
    missing = {product for product in history.products() if product not in in_force.products}
    for product, place in history.products().items():
        if product not in known and product != SERVICE_PRODUCT:
            raise HistoryError(f"product {product!r} is in no price list", place)
    if not missing:
        return
    for facts in history.all_facts():
        for product in used_products(facts, month):
            if product in missing:
                reason = (
                    f"product {product!r}, used in {month.period}, is not in price list {in_force.version}"
                )
                raise HistoryError(reason, history.products()[product])


def used_products(facts: TenantFacts, month: Month) -> Iterator[str]:
    """Yield what the tenant booked, named or metered at an instant of the month."""
    for product, booked in facts.bookings.items():
        if maximum(booked, whole(month)) and product != SERVICE_PRODUCT:
            yield product
    for product, users in facts.bindings.items():
        if product != SERVICE_PRODUCT and any(intersect(bound, whole(month)) for bound in users.values()):
            yield product
    for product, readings in facts.meters.items():
        if any(each.quantity and covers(whole(month), each.at_ms) for each in readings):
            yield product
