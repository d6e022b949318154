"""A month in money and in use, from SQL: each tenant's facts loaded, rated by the list in force, passed on.

Decides what an open month is: rated as of one instant, as if nothing changed after it, hours up to it.  Tenants come in
code-point order, a few at a time: each lot is one read of the database, none of which is open while somebody
takes in the answer, and the reckoning is done aside, so that seats are served meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Final, Literal

from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts.facts import tenant_ids
from seatd.billing import questions
from seatd.billing.amounts import exact_sum
from seatd.billing.export import Format, charges_file, usage_file
from seatd.billing.months import Month, first_day
from seatd.billing.questions import Question
from seatd.billing.rating import Charge, rate
from seatd.billing.report import Usage, usage
from seatd.billing.totals import Totals, totals
from seatd.catalogue.pricelist import PriceList
from seatd.database import freezing
from seatd.database.engine import reading
from seatd.flows.month_facts import MonthFacts, load_all
from seatd.flows.price_lists import PriceLists
from seatd.model import Refusal, invalid
from seatd.usage.ledger import OpenGap, gaps_since

TENANTS_A_LOT: Final = 50

What = Literal["charges", "usage"]
WHATS: Final[tuple[What, ...]] = ("charges", "usage")


@dataclass(frozen=True, slots=True)
class OpenMonth:
    """A month that is not closed, as of `until_ms`, with the price list in force."""

    month: Month
    price_list: PriceList
    until_ms: int


@dataclass(frozen=True, slots=True)
class Rated:
    """One tenant's month: its lines, its use, and what cannot be priced or counted."""

    tenant: str
    charges: tuple[Charge, ...]
    usage: Usage | None
    unpriced: frozenset[str]
    unstarted: int


@dataclass(frozen=True, slots=True)
class Preview:
    """An open month in totals; tenants without tariff, use and lines are left out."""

    opened: OpenMonth
    tenants: tuple[Totals, ...]
    net: Decimal
    vat: Decimal
    gross: Decimal
    gaps: tuple[OpenGap, ...]
    questions: tuple[Question, ...]


class Months:
    """The months of this deployment.

    `clock` gives milliseconds since the UTC epoch, `waiting` the usage events not in the ledger yet (None: not
    known).
    """

    def __init__(
        self,
        engine: AsyncEngine,
        price_lists: PriceLists,
        *,
        clock: Callable[[], int],
        waiting: Callable[[], int | None],
    ) -> None:
        self.engine = engine
        self._price_lists = price_lists
        self._clock = clock
        self._waiting = waiting

    async def open(self, period: str) -> OpenMonth:
        """Find a month (`YYYY-MM`) as it stands now.

        Raises `Refusal`: `invalid_request`, `no_price_list`, `conflict` where its leases were archived.
        """
        try:
            first = first_day(period)
        except ValueError as error:
            raise invalid("month", str(error)) from None
        async with reading(self.engine) as connection:
            frozen = await freezing.frozen(connection)
        if any(each.archived and each.period == period for each in frozen):
            raise Refusal(
                "conflict",
                f"{period} is archived: its files and evidence are as they were, its leases are in archive/{period}.",
            )
        price_list = await self._price_lists.of_month(first)
        return OpenMonth(Month.parse(period, price_list.timezone), price_list, self._clock())

    async def rated(self, opened: OpenMonth) -> AsyncIterator[list[Rated]]:
        """Rate a month, a lot of tenants at a time."""
        async with reading(self.engine) as connection:
            names = iter(await tenant_ids(connection))
        while lot := list(islice(names, TENANTS_A_LOT)):
            async with reading(self.engine) as connection:
                loaded = await load_all(connection, lot, opened.month)
            yield await asyncio.to_thread(_rate_all, loaded, opened)

    async def preview(self, period: str) -> Preview:
        """Add up what an open month comes to; raises what `open` raises."""
        opened = await self.open(period)
        sums: list[Totals] = []
        unpriced: dict[str, list[str]] = {}
        unstarted: dict[str, int] = {}
        async for lot in self.rated(opened):
            for rated in lot:
                if rated.charges or rated.usage:
                    sums.append(totals_of(rated, opened.price_list))
                if rated.unstarted:
                    unstarted[rated.tenant] = rated.unstarted
                for product in rated.unpriced:
                    unpriced.setdefault(product, []).append(rated.tenant)
        async with reading(self.engine) as connection:
            gaps = await gaps_since(connection, opened.month.start_ms)
        asked = (
            *questions.about_products(unpriced, opened.price_list),
            *questions.about_gaps(gap.to_seq - gap.from_seq + 1 for gap in gaps),
            *questions.about_unstarted(unstarted),
            *questions.about_backlog(self._waiting()),
        )
        net, vat = exact_sum([each.net for each in sums]), exact_sum([each.vat for each in sums])
        return Preview(opened, tuple(sums), net, vat, exact_sum([net, vat]), gaps, asked)

    async def exported(self, opened: OpenMonth, what: What, file_format: Format) -> AsyncIterator[bytes]:
        """Write the lines of a month, a lot at a time; CSV has its header first, even where no line follows."""
        yield b"".join(_file([], what, file_format))
        headers = 1 if file_format == "csv" else 0
        async for lot in self.rated(opened):
            yield b"".join(islice(_file(lot, what, file_format), headers, None))


def _rate_all(loaded: Iterable[MonthFacts], opened: OpenMonth) -> list[Rated]:
    return [rate_tenant(each, opened) for each in loaded]


def rate_tenant(loaded: MonthFacts, opened: OpenMonth) -> Rated:
    """Rate one tenant's month; `until_ms` at its end or later is all of it."""
    facts, month, price_list, until_ms = loaded.facts, opened.month, opened.price_list, opened.until_ms
    return Rated(
        facts.tenant,
        tuple(rate(facts, price_list, month, until_ms)),
        usage(facts, month, until_ms),
        questions.unpriced(facts, price_list, month, until_ms),
        loaded.unstarted,
    )


def totals_of(rated: Rated, price_list: PriceList) -> Totals:
    """Add up one tenant's lines; all zero where there are none."""
    nothing = Decimal("0.00")
    if not rated.charges:
        return Totals(rated.tenant, price_list.currency, nothing, nothing, nothing, ())
    (sums,) = totals(rated.charges)
    return sums


def _file(lot: Iterable[Rated], what: What, file_format: Format) -> Iterator[bytes]:
    if what == "charges":
        return charges_file((charge for rated in lot for charge in rated.charges), file_format)
    return usage_file((rated.usage for rated in lot if rated.usage), file_format)
