"""A month in forms that others read: its leases, any CSV of it as Parquet, its money as a DATEV booking batch.

Nothing is reckoned here: an open month is read as it stands, a closed one from the files that were signed.  Work that blocks is
done aside, in a folder that is gone afterwards.
"""

import asyncio
import csv
import shutil
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from sqlalchemy import select

from seatd.accounts.facts import tenant_ids
from seatd.billing.datev import Line, UnmappedError, booking_batch
from seatd.billing.datev_toml import AccountsError, parse_accounts
from seatd.billing.export import INTERVAL_COLUMNS, Format, rows_file
from seatd.billing.parquet import NoParquetError, write_parquet
from seatd.database.engine import reading
from seatd.database.schema import tenants
from seatd.flows.closed_months import ClosedMonth, ClosedMonths
from seatd.flows.month_facts import load_all
from seatd.flows.month_files import interval_rows
from seatd.flows.months import TENANTS_A_LOT, Months, OpenMonth
from seatd.model import Refusal

CHUNK: Final = 256 * 1024


async def intervals(months: Months, opened: OpenMonth, file_format: Format) -> AsyncIterator[bytes]:
    """Write the leases of an open month, a lot of tenants at a time; CSV has its header first."""
    yield b"".join(rows_file(INTERVAL_COLUMNS, (), file_format))
    headers = 1 if file_format == "csv" else 0
    async with reading(months.engine) as connection:
        names = iter(await tenant_ids(connection))
    while lot := list(islice(names, TENANTS_A_LOT)):
        async with reading(months.engine) as connection:
            loaded = await load_all(connection, lot, opened.month)
        rows = [row for each in loaded for row in interval_rows(each, opened.month)]
        yield b"".join(islice(rows_file(INTERVAL_COLUMNS, rows, file_format), headers, None))


async def as_parquet(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Turn a CSV into Parquet; raises `Refusal` `conflict` where this seatd cannot write it."""
    folder = Path(await asyncio.to_thread(mkdtemp, prefix="seatd-"))
    try:
        source, target = folder / "lines.csv", folder / "lines.parquet"
        with source.open("wb") as file:
            async for chunk in lines:
                await asyncio.to_thread(file.write, chunk)
        try:
            await asyncio.to_thread(write_parquet, source, target)
        except NoParquetError as error:
            raise Refusal("conflict", str(error)) from None
        with target.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Bookings:
    """Booking batches of closed months; `mapping` is the TOML file of the accounts, None where there is none."""

    closed: ClosedMonths
    mapping: Path | None

    async def batch(self, month: ClosedMonth) -> bytes:
        """Write a closed month, its corrections of earlier ones too, as a DATEV booking batch.

        Raises `Refusal` `conflict`: no mapping, a wrong one, or one that lacks an account.
        """
        if self.mapping is None:
            raise Refusal(
                "conflict", "No account mapping is set: start seatd with --datev-accounts FILE, or set SEATD_DATEV_ACCOUNTS."
            )  # fmt: skip
        try:
            accounts = parse_accounts(await asyncio.to_thread(self.mapping.read_text, "utf-8"))
            lines = await self._lines(month)
            return await asyncio.to_thread(
                booking_batch,
                lines,
                accounts,
                period=month.period,
                currency=str(month.signed["currency"]),
                made_at=datetime.fromtimestamp(month.closed_ms / 1000, UTC),
            )
        except (OSError, UnicodeDecodeError, AccountsError) as error:
            raise Refusal("conflict", f"The account mapping cannot be used: {error}.") from None
        except UnmappedError as error:
            raise Refusal("conflict", f"The account mapping has {error}.") from None

    async def _lines(self, month: ClosedMonth) -> list[Line]:
        async with reading(self.closed.engine) as connection:
            rows = await connection.execute(select(tenants.c.id, tenants.c.customer))
            customers = {row.id: row.customer for row in rows}
        lines: list[Line] = []
        for name in ("charges.csv", "corrections.csv"):
            text = (await self.closed.read(month, name)).decode()
            lines += _lines(csv.DictReader(text.splitlines()), customers, str(month.signed["currency"]))
        return lines


def _lines(rows: Iterable[dict[str, str]], customers: dict[str, str], currency: str) -> Iterable[Line]:
    for row in rows:
        if row["currency"] != currency:
            raise Refusal(
                "conflict",
                f"{row['tenant']} has lines in {row['currency']} and {currency}: a batch has one currency.",
            )
        customer = customers.get(row["tenant"], row["tenant"])
        yield Line(row["tenant"], customer, row["product"], Decimal(row["vat_rate"]), Decimal(row["net"]))
