"""Questions about months, answered from SQL before they are asked: what differs, what was wanted, what would have been.

Decides which months and tenants an answer takes, and reads them a lot at a time, none of which is open while somebody
takes in the answer.  What is reckoned stands in billing; nothing here changes anything.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import islice
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts.facts import tenant_ids
from seatd.accounts.people import names_of
from seatd.billing.advice import Advice, advise
from seatd.billing.amounts import exact_sum
from seatd.billing.demand import Witness, demand, peak_witnesses, refused
from seatd.billing.explanation import Difference, explain
from seatd.billing.facts import TenantFacts
from seatd.billing.months import Month, first_day
from seatd.billing.rating import Charge, project, rate
from seatd.billing.supposition import on_agent, on_team, with_booked
from seatd.billing.tenancy import charged_time
from seatd.catalogue.pricelist import PriceList
from seatd.database.engine import reading
from seatd.flows.month_facts import load_all
from seatd.flows.months import Months, OpenMonth
from seatd.flows.price_lists import read
from seatd.model import TEAM_PRODUCT, Refusal, Tariff, invalid

TENANTS_A_LOT: Final = 50
MONTHS_MAX: Final = 12
_NOTHING: Final = Decimal("0.00")


@dataclass(frozen=True, slots=True)
class Explained:
    """One tenant's month to date, as it looks to end, and why that differs from the month before."""

    tenant: str
    to_date: Decimal
    projected: Decimal
    before: Decimal
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """An open month explained; `differs_from` is the month before, None where no price list was in force."""

    opened: OpenMonth
    differs_from: str | None
    tenants: tuple[Explained, ...]


@dataclass(frozen=True, slots=True)
class Peak:
    """Who sat when a tenant's month was fullest, by person id; `names` where they were asked for."""

    at_ms: int | None
    witnesses: tuple[Witness, ...]
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Supposition:
    """What to suppose: another price list (its TOML), other quantities by product, another tariff.

    Team with no quantity of `team` is supposed with as many seats as each month's peak wanted.
    """

    price_list: str | None = None
    quantities: Mapping[str, int] = field(default_factory=dict)
    tariff: Tariff | None = None


@dataclass(frozen=True, slots=True)
class Supposed:
    """One tenant's month as it is charged and as it would have been; `refused` logins, None where seats were not supposed."""

    period: str
    tenant: str
    currency: str
    net: Decimal
    supposed_net: Decimal
    supposed_currency: str
    refused: int | None


class Inquiries:
    """Answers about the months of this deployment."""

    def __init__(self, engine: AsyncEngine, months: Months) -> None:
        self._engine = engine
        self._months = months

    async def explained(self, period: str, tenant: str | None) -> Explanation:
        """Explain an open month, of one tenant or of all; raises `Refusal`: `invalid_request`, `no_price_list`, `not_found`."""
        now = await self._months.open(period)
        try:
            before = await self._months.open(_months_after(period, -1))
        except Refusal as refusal:
            if refusal.code not in ("no_price_list", "invalid_request", "conflict"):
                raise
            before = None
        told: list[Explained] = []
        async for lot in self._facts(now.month, tenant):
            earlier = await self._loaded(list(lot), before.month) if before else {}
            told += await asyncio.to_thread(_explain_all, lot, earlier, now, before)
        return Explanation(now, before.month.period if before else None, tuple(told))

    async def advice(self, period: str, tenant: str) -> Advice:
        """Advise on a tenant's tariff and seats by one month's logins; raises what `explained` raises."""
        opened = await self._months.open(period)
        facts = await self._one(tenant, opened.month)
        return await asyncio.to_thread(advise, facts, opened.price_list, opened.month, opened.until_ms)

    async def peak(self, period: str, tenant: str, *, named: bool) -> Peak:
        """Tell who sat when a tenant's month was fullest; raises what `explained` raises."""
        opened = await self._months.open(period)
        facts = (await self._one(tenant, opened.month)).until(opened.until_ms)
        at_ms, witnesses = await asyncio.to_thread(peak_witnesses, facts, opened.month)
        names: Mapping[str, str] = {}
        if named:
            async with reading(self._engine) as connection:
                names = await names_of(connection, tenant, (each.user for each in witnesses))
        return Peak(at_ms, witnesses, names)

    async def what_if(
        self, first: str, count: int, tenant: str | None, supposition: Supposition
    ) -> AsyncIterator[list[Supposed]]:
        """Reckon past months again under a supposition, a lot of tenants at a time; raises what `explained` raises."""
        if not 1 <= count <= MONTHS_MAX:
            raise invalid("months", f"must be 1 to {MONTHS_MAX}")
        prices = read(supposition.price_list) if supposition.price_list else None
        for period in [_months_after(first, ahead) for ahead in range(count)]:
            opened = await self._months.open(period)
            if opened.month.start_ms >= opened.until_ms:
                raise invalid("months", f"{period} has not begun")
            if prices and prices.timezone != opened.price_list.timezone:
                raise invalid("price_list", f"must be of the time zone {opened.price_list.timezone}")
            async for lot in self._facts(opened.month, tenant):
                yield await asyncio.to_thread(_suppose_all, lot, opened, prices, supposition)

    async def _one(self, tenant: str, month: Month) -> TenantFacts:
        async for lot in self._facts(month, tenant):
            return lot[tenant]
        raise Refusal("not_found", f"There is no tenant {tenant}.")

    async def _facts(self, month: Month, tenant: str | None) -> AsyncIterator[dict[str, TenantFacts]]:
        async with reading(self._engine) as connection:
            known = await tenant_ids(connection)
        if tenant is not None and tenant not in known:
            raise Refusal("not_found", f"There is no tenant {tenant}.")
        names = iter(known if tenant is None else [tenant])
        while lot := list(islice(names, TENANTS_A_LOT)):
            yield await self._loaded(lot, month)

    async def _loaded(self, tenants: list[str], month: Month) -> dict[str, TenantFacts]:
        async with reading(self._engine) as connection:
            loaded = await load_all(connection, tenants, month)
        return {each.facts.tenant: each.facts for each in loaded}


def _months_after(period: str, ahead: int) -> str:
    try:
        first = first_day(period)
        number = first.year * 12 + first.month - 1 + ahead
        return f"{first_day(f'{date(number // 12, number % 12 + 1, 1):%Y-%m}'):%Y-%m}"
    except ValueError as error:
        raise invalid("month", str(error)) from None


def _net(charges: list[Charge]) -> Decimal:
    return exact_sum([_NOTHING, *(each.net for each in charges)])


def _explain_all(
    lot: Mapping[str, TenantFacts],
    earlier: Mapping[str, TenantFacts],
    now: OpenMonth,
    before: OpenMonth | None,
) -> list[Explained]:
    told = (_explain(facts, earlier.get(tenant), now, before) for tenant, facts in lot.items())
    return [each for each in told if each.to_date or each.projected or each.before or each.differences]


def _explain(
    facts: TenantFacts, earlier: TenantFacts | None, now: OpenMonth, before: OpenMonth | None
) -> Explained:
    to_date = rate(facts, now.price_list, now.month, now.until_ms)
    expected = project(facts, now.price_list, now.month, now.until_ms)
    last: list[Charge] = []
    if before and earlier:
        last = rate(earlier, before.price_list, before.month, now.until_ms)
    differences = explain(last, expected, now.price_list)
    return Explained(facts.tenant, _net(to_date), _net(expected), _net(last), differences)


def _suppose_all(
    lot: Mapping[str, TenantFacts], opened: OpenMonth, prices: PriceList | None, supposition: Supposition
) -> list[Supposed]:
    told = (_suppose(facts.until(opened.until_ms), opened, prices, supposition) for facts in lot.values())
    return [each for each in told if each.net or each.supposed_net or each.refused]


def _suppose(
    facts: TenantFacts, opened: OpenMonth, prices: PriceList | None, supposition: Supposition
) -> Supposed:
    price_list = prices or opened.price_list
    supposed, seats = _supposed(facts, opened.month, supposition)
    return Supposed(
        period=opened.month.period,
        tenant=facts.tenant,
        currency=opened.price_list.currency,
        net=_net(rate(facts, opened.price_list, opened.month, opened.until_ms)),
        supposed_net=_net(rate(supposed, price_list, opened.month, opened.until_ms)),
        supposed_currency=price_list.currency,
        refused=None if seats is None else refused(facts, opened.month, seats),
    )


def _supposed(facts: TenantFacts, month: Month, supposition: Supposition) -> tuple[TenantFacts, int | None]:
    """Return the supposed facts, and the number of floating seats that they stand on, if that was supposed."""
    seats = None
    for product, quantity in supposition.quantities.items():
        facts = with_booked(facts, product, quantity)
        if product == TEAM_PRODUCT and charged_time(facts, month):
            seats = quantity
    if supposition.tariff is Tariff.AGENT:
        return on_agent(facts, month), None
    if supposition.tariff is Tariff.TEAM:
        seats = supposition.quantities.get(TEAM_PRODUCT, demand(facts, month).peak)
        return on_team(facts, seats), seats
    return facts, seats
