"""What is still open about a month: asked of the one who bills before the customer asks.

Each question has a stable `code`, a sentence, and fields that say what it is about.  None of them keeps a preview
from being reckoned.  Where the facts come from is not known here.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from seatd.billing.coverage import used_products
from seatd.billing.facts import TenantFacts
from seatd.billing.months import Month
from seatd.catalogue.pricelist import PriceList

_NAMED_MAX = 10


@dataclass(frozen=True, slots=True)
class Question:
    """Something that may change what a month costs, or that nobody can price."""

    code: str
    detail: str
    fields: Mapping[str, object] = field(default_factory=dict)


def unpriced(facts: TenantFacts, price_list: PriceList, month: Month, until_ms: int) -> frozenset[str]:
    """Name the products that a tenant used in a month up to now, and that its price list does not know."""
    used = set(used_products(facts.until(until_ms), month))
    return frozenset(used - price_list.products.keys())


def about_products(tenants_by_product: Mapping[str, list[str]], price_list: PriceList) -> Iterator[Question]:
    """Ask for the prices of products that tenants use and the price list does not know."""
    for product, tenants in sorted(tenants_by_product.items()):
        yield Question(
            "unknown_product",
            f"Price list {price_list.version} does not know {product}, which {_tenants(len(tenants))}: it costs nothing.",
            {"product": product, "tenants": tenants[:_NAMED_MAX], "tenants_count": len(tenants)},
        )


def about_unstarted(unstarted: Mapping[str, int]) -> Iterator[Question]:
    """Ask about leases whose start was never seen: how long they lasted nobody can tell."""
    for tenant, count in sorted(unstarted.items()):
        detail = f"The start of {count} of {tenant}'s leases was lost: they are not counted."
        yield Question("lease_start_lost", detail, {"tenant": tenant, "leases": count})


def about_gaps(missing: Iterable[int]) -> Iterator[Question]:
    """Ask about gaps in the events of the seat plane, given how many events each lacks."""
    counts = list(missing)
    if counts:
        detail = f"{sum(counts)} usage events were lost, in {len(counts)} gaps."
        yield Question("usage_gaps", detail, {"gaps": len(counts), "events": sum(counts)})


def about_backlog(waiting: int | None) -> Iterator[Question]:
    """Ask about events that are not in the ledger yet; None: nobody knows how many."""
    if waiting is None:
        yield Question(
            "usage_backlog", "Nobody knows how many usage events wait for the ledger.", {"events": None}
        )
    elif waiting:
        detail = f"{waiting} usage events wait for the ledger."
        yield Question("usage_backlog", detail, {"events": waiting})


def _tenants(count: int) -> str:
    return "1 tenant uses" if count == 1 else f"{count} tenants use"
