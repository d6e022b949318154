"""Turn a CSV export into Parquet, typed; DuckDB does the writing, and comes as the extra `parquet`.

Decides the types of columns: amounts are decimals, instants are UTC timestamps, counts are integers; what else there
is stays text.  The lines themselves are the CSV's: nothing is rated or rounded here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

TYPES: Final[Mapping[str, str]] = {
    "from": "TIMESTAMPTZ",
    "to": "TIMESTAMPTZ",
    "quantity": "DECIMAL(38, 12)",
    "unit_price": "DECIMAL(38, 12)",
    "net": "DECIMAL(38, 2)",
    "vat_rate": "DECIMAL(18, 6)",
    "used_peak": "BIGINT",
    "used_peak_at": "TIMESTAMPTZ",
    "booked_peak": "BIGINT",
    "seat_hours": "DECIMAL(38, 4)",
    "p95": "BIGINT",
    "distinct_users": "BIGINT",
    "denied": "BIGINT",
    "full_minutes": "DECIMAL(38, 4)",
    "started": "TIMESTAMPTZ",
    "ended": "TIMESTAMPTZ",
    "started_ms": "BIGINT",
    "ended_ms": "BIGINT",
    "partition": "BIGINT",
    "pos": "BIGINT",
}
"""The type of each column that is not text, by its name in the CSV."""

_MEMORY: Final = "256MB"
_ROWS: Final = 10_000


class NoParquetError(Exception):
    """Parquet cannot be written here: the extra is not installed."""


def write_parquet(source: Path, target: Path) -> None:
    """Write the CSV file `source`, which has a header, as the Parquet file `target`.

    Raises `NoParquetError`; blocks, so call it in a thread.
    """
    with source.open(encoding="utf-8") as lines:
        columns = lines.readline().rstrip("\n").split(",")
    with _connected() as connection:
        chosen = ", ".join(_column(name) for name in columns)
        read = "read_csv(?, header = true, all_varchar = true, delim = ',', quote = '\"')"
        query = f"SELECT {chosen} FROM {read}"  # noqa: S608 - names of our own header, quoted
        relation = connection.sql(query, params=[str(source)])
        relation.write_parquet(str(target), compression="zstd")


def query(text: str) -> Iterator[tuple[Any, ...]]:
    """Give the rows of a query over Parquet files, some at a time; raises `NoParquetError`."""
    with _connected() as connection:
        found = connection.execute(text)
        while rows := found.fetchmany(_ROWS):
            yield from rows


@contextmanager
def _connected() -> Iterator[Any]:
    with _duckdb().connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute(f"SET memory_limit = '{_MEMORY}'")
        connection.execute("SET autoinstall_known_extensions = false")  # what is needed is built in
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def _column(name: str) -> str:
    quoted = '"' + name.replace('"', '""') + '"'
    if name not in TYPES:
        return f"coalesce({quoted}, '') AS {quoted}"
    return f"CAST({quoted} AS {TYPES[name]}) AS {quoted}"


def _duckdb() -> ModuleType:
    try:
        import duckdb  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise NoParquetError(
            "Parquet needs the extra `parquet` (DuckDB): pip install 'seatd[parquet]'."
        ) from None
    return duckdb
