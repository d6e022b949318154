"""Price lists: take one in, and tell which is in force, where months begin, and what is sold to whole tenants.

Decides that a list is read and found right before it is kept, and that policies follow when another list says
otherwise what is sold to a tenant as a whole.  How a list is read is the catalogue's, how it is
kept the account plane's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from seatd.accounts import audit, price_lists
from seatd.accounts.base import ZONE_DEFAULT
from seatd.accounts.price_lists import StoredList
from seatd.billing.months import Month
from seatd.catalogue.pricelist import PriceList, PriceListError, ProductScope, in_force
from seatd.catalogue.pricelist_toml import parse_price_list
from seatd.database.engine import reading, writing
from seatd.database.schema import CLOSED, months
from seatd.model import Refusal, invalid

_NAME: Final = "price list"
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9990
_NEVER_MS: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class Added:
    """A price list that stands now; `created` is false where the same stood already."""

    price_list: PriceList
    created: bool


@lru_cache(maxsize=64)
def read(toml: str) -> PriceList:
    """Read a price list; raises `Refusal` `invalid_request` with place, line and reason."""
    try:
        return parse_price_list(toml, source=_NAME)
    except PriceListError as error:
        where = f"line {error.line}: " if error.line else ""
        raise invalid(error.place or "body", f"{where}{error.reason}") from None


class PriceLists:
    """The price lists of this deployment; `clock` gives milliseconds since the UTC epoch.

    All methods raise `Refusal` `database_unavailable` or `busy` where SQL does not answer.
    """

    def __init__(self, engine: AsyncEngine, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._clock = clock

    async def add(self, toml: str, *, actor: str) -> Added:
        """Take a price list in, with its audit row; raises `Refusal`: `invalid_request`, `conflict`."""
        new = read(toml)
        now_ms = self._clock()
        async with writing(self._engine) as connection:
            before = await _current(connection, now_ms)
            kept = await price_lists.add(
                connection,
                version=new.version,
                valid_from=new.valid_from.isoformat(),
                toml=toml,
                now_ms=now_ms,
            )
            if kept is None:
                return Added(new, created=False)
            if _sold_to_tenants(before) != _sold_to_tenants(new):
                await price_lists.project_all(connection, max(now_ms, _in_force_ms(new)))
            await _audited(connection, kept, actor)
            await price_lists.check_date(connection, kept.version, kept.valid_from)
        return Added(new, created=True)

    async def listed(self) -> tuple[StoredList, ...]:
        """List all of them, by the date from which they are valid."""
        async with reading(self._engine) as connection:
            return await price_lists.listed(connection)

    async def of_month(self, first_day: date) -> PriceList:
        """Give the list in force in a month, or by which it was closed; raises `Refusal` `no_price_list`."""
        query = select(months.c.price_list).where(
            months.c.period == f"{first_day:%Y-%m}", months.c.state == CLOSED
        )
        async with reading(self._engine) as connection:
            lists = [read(each.toml) for each in await price_lists.listed(connection)]
            billed_by = (await connection.execute(query)).scalar_one_or_none()
        if billed_by is not None:  # a list that came later changes nothing of what was billed
            return next(each for each in lists if each.version == billed_by)
        try:
            return in_force(lists, first_day)
        except PriceListError as error:
            detail = f"{error.reason[0].upper()}{error.reason[1:]}."
            raise Refusal("no_price_list", detail) from None

    async def zone_of(self, at_ms: int) -> str:
        """Name the time zone in which months begin, for what is decided at an instant."""
        async with reading(self._engine) as connection:
            current = await _current(connection, at_ms)
        return current.timezone if current else ZONE_DEFAULT

    async def tenant_scoped(self) -> frozenset[str]:
        """Name the products that are sold to a tenant as a whole now."""
        async with reading(self._engine) as connection:
            return _sold_to_tenants(await _current(connection, self._clock()))


async def _current(connection: AsyncConnection, at_ms: int) -> PriceList | None:
    """Give the list in force at an instant, else the first to come; None where there is none at all."""
    lists = [read(each.toml) for each in await price_lists.listed(connection)]
    begun = [each for each in lists if _in_force_ms(each) <= at_ms]
    return begun[-1] if begun else next(iter(lists), None)


def _in_force_ms(price_list: PriceList) -> int:
    """Give the begin of the first month in which a list is in force."""
    first = price_list.valid_from
    if not _FIRST_YEAR <= first.year <= _LAST_YEAR:  # outside of the months that are reckoned with
        return 0 if first.year < _FIRST_YEAR else _NEVER_MS
    if first.day > 1:
        first = (first.replace(day=1) + timedelta(days=32)).replace(day=1)
    return Month.parse(f"{first:%Y-%m}", price_list.timezone).start_ms


def _sold_to_tenants(price_list: PriceList | None) -> frozenset[str]:
    products = price_list.products.values() if price_list else ()
    return frozenset(product.id for product in products if product.scope is ProductScope.TENANT)


async def _audited(connection: AsyncConnection, kept: StoredList, actor: str) -> None:
    detail = {"version": kept.version, "valid_from": kept.valid_from, "digest": kept.digest}
    await audit.append(
        connection, at_ms=kept.added_ms, actor=actor, action="price_list.add", tenant=None, detail=detail
    )
