"""What became known late, as corrections: closed months rated again from what is known now, held against what was billed.

Decides which months and tenants are looked at: those of which something was noted late.  A closed month is rated by the
price list that it was closed with, whatever lists came since.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts import price_lists
from seatd.billing.corrections import Corrected, billed_by_now, corrections
from seatd.billing.export import Row, charge_row
from seatd.billing.historywriting import told
from seatd.billing.months import Month
from seatd.billing.verify_bundle import canonical
from seatd.database import freezing
from seatd.database.schema import late_facts
from seatd.flows import closed_months
from seatd.flows.closed_months import ClosedMonth
from seatd.flows.month_facts import MonthFacts, load, told_events
from seatd.flows.months import OpenMonth, rate_tenant
from seatd.flows.price_lists import read


@dataclass(frozen=True, slots=True)
class Late:
    """Closed months before the one that is closed now, and the tenants of each of which something came late.

    `closed` are all of them, in the order in which they were closed: each may hold corrections.
    """

    period: str
    months: tuple[ClosedMonth, ...]
    closed: tuple[ClosedMonth, ...]
    opened: dict[str, OpenMonth]
    lists: dict[str, str]
    tenants: dict[str, frozenset[str]]

    @classmethod
    async def before(cls, connection: AsyncConnection, period: str) -> "Late":
        """Look what came late for months before `period`."""
        closed = sorted(await closed_months.listed(connection), key=lambda each: each.closed_ms)
        archived = {each.period for each in await freezing.frozen(connection) if each.archived}
        earlier = tuple(each for each in closed if each.period < period and each.period not in archived)
        lists = {each.version: each.toml for each in await price_lists.listed(connection)}
        opened = {
            each.period: OpenMonth(
                Month.parse(each.period, each.timezone), read(lists[each.price_list]), each.closed_ms
            )
            for each in earlier
        }
        rows = (await connection.execute(select(late_facts.c.period, late_facts.c.tenant))).all()
        tenants = {
            each.period: frozenset(row.tenant for row in rows if row.period == each.period)
            for each in earlier
        }
        return cls(period, earlier, tuple(closed), opened, lists, tenants)

    async def corrections_of(self, connection: AsyncConnection, tenant: str) -> Corrected:
        """Correct a tenant's closed months, in order."""
        rows: list[Row] = []
        history: list[bytes] = []
        for month in self.months:
            if tenant in self.tenants[month.period]:
                opened = self.opened[month.period]
                loaded = await load(connection, tenant, opened.month)
                if found := await self._of_month(connection, loaded, month):
                    rows += found
                    history += self._history(loaded, month)
        return Corrected(tuple(rows), tuple(history))

    def _history(self, loaded: MonthFacts, month: ClosedMonth) -> Iterator[bytes]:
        """Tell a corrected month as it is known now, after a line that says which it is and by which list it is priced."""
        of, opened = self.opened[month.period].month, self.opened[month.period]
        head = {"period": month.period, "timezone": month.timezone, "prices": self.lists[month.price_list]}
        yield canonical(head)
        yield from told(told_events(loaded, of), of, opened.price_list.products.keys()).history

    async def _of_month(
        self, connection: AsyncConnection, loaded: MonthFacts, month: ClosedMonth
    ) -> list[Row]:
        tenant, opened = loaded.facts.tenant, self.opened[month.period]
        rated = rate_tenant(loaded, opened)
        closed = await closed_months.tenant_lines(connection, month.token, "charges.csv", tenant)
        since: list[Row] = []
        for later in self.closed:
            lines = await closed_months.tenant_lines(connection, later.token, "corrections.csv", tenant)
            since += (row for row in _rows(lines) if row[-1] == month.period)
        billed = billed_by_now(_rows(closed), since)
        return corrections(billed, [charge_row(each) for each in rated.charges], period=self.period)


def _rows(lines: bytes) -> Iterable[Row]:
    return (tuple(row) for row in csv.reader(io.StringIO(lines.decode(), newline="")))
