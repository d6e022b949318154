"""Charges and usage as CSV and JSON lines, to the byte (contract: BILLING.md).

Both formats have the same columns in the same order, all values strings.  Everything is a generator
of bytes: a month of any size passes through.  The order of lines is the order they are given in,
which is right when tenants come sorted by code point.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from seatd.billing.amounts import plain
from seatd.billing.rating import Charge
from seatd.billing.report import Usage

Format = Literal["csv", "jsonl"]
Row = tuple[str, ...]

CHARGE_COLUMNS: Final = (
    "period",
    "tenant",
    "product",
    "metric",
    "from",
    "to",
    "weight",
    "quantity",
    "unit_price",
    "net",
    "vat_rate",
    "currency",
    "price_list",
)
USAGE_COLUMNS: Final = (
    "period",
    "tenant",
    "used_peak",
    "used_peak_at",
    "booked_peak",
    "seat_hours",
    "p95",
    "distinct_users",
    "denied",
    "full_minutes",
)


INTERVAL_COLUMNS: Final = ("tenant", "lease", "user", "tariff", "started", "ended", "end_reason")


def charge_row(charge: Charge) -> Row:
    """Return the values of one charge, in the order of `CHARGE_COLUMNS`."""
    return (
        charge.month.period,
        charge.tenant,
        charge.product,
        charge.metric.value,
        charge.month.rfc3339(charge.from_ms),
        charge.month.rfc3339(charge.to_ms),
        str(charge.weight),
        plain(charge.quantity),
        charge.unit_price.text,
        format(charge.net, "f"),
        charge.vat_rate.text,
        charge.currency,
        charge.price_list,
    )


def usage_row(line: Usage) -> Row:
    """Return the values of one usage line, in the order of `USAGE_COLUMNS`."""
    return (
        line.month.period,
        line.tenant,
        str(line.used_peak),
        "" if line.used_peak_at_ms is None else line.month.rfc3339(line.used_peak_at_ms),
        str(line.booked_peak),
        plain(line.seat_hours),
        str(line.p95),
        str(line.distinct_users),
        str(line.denied),
        plain(line.full_minutes),
    )


def charges_file(charges: Iterable[Charge], file_format: Format) -> Iterator[bytes]:
    """Yield the lines of `charges.csv` or `charges.jsonl`; CSV has its header first."""
    return rows_file(CHARGE_COLUMNS, map(charge_row, charges), file_format)


def usage_file(lines: Iterable[Usage], file_format: Format) -> Iterator[bytes]:
    """Yield the lines of `usage.csv` or `usage.jsonl`; CSV has its header first."""
    return rows_file(USAGE_COLUMNS, map(usage_row, lines), file_format)


def rows_file(columns: Row, rows: Iterable[Row], file_format: Format) -> Iterator[bytes]:
    """Yield the lines of a file of rows; CSV has its header first."""
    if file_format == "csv":
        yield csv_line(columns)
        yield from map(csv_line, rows)
        return
    for row in rows:
        yield (json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n").encode()


def csv_line(values: Row) -> bytes:
    """Write one line of CSV."""
    return (",".join(map(_csv_value, values)) + "\n").encode()


def _csv_value(value: str) -> str:
    """Quote a value that would break the line: only the price list's own words can."""
    if any(sign in value for sign in ',"\n\r'):
        return '"' + value.replace('"', '""') + '"'
    return value
