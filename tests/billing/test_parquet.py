"""A Parquet file says what its CSV says, in types."""

import csv
import datetime as dt
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from seatd.billing.parquet import TYPES, NoParquetError, write_parquet

EXAMPLES = Path(__file__).parent / "examples"


def read(path):
    """Give columns and rows; instants as milliseconds."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        columns = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
        chosen = ", ".join(
            f'epoch_ms("{name}")' if kind.startswith("TIMESTAMP") else f'"{name}"'
            for name, kind, *_ in columns
        )
        found = connection.execute(f"SELECT {chosen} FROM read_parquet(?)", [str(path)])
        return [column[0] for column in columns], found.fetchall()


@pytest.mark.parametrize("name", ["march.charges.csv", "march.usage.csv", "april.charges.csv"])
def test_every_cell_is_the_csvs(tmp_path, name):
    write_parquet(EXAMPLES / name, tmp_path / "x.parquet")
    columns, rows = read(tmp_path / "x.parquet")
    with (EXAMPLES / name).open() as lines:
        header, *expected = csv.reader(lines)
    assert columns == header
    assert len(rows) == len(expected)
    for row, texts in zip(rows, expected, strict=True):
        for name, value, text in zip(columns, row, texts, strict=True):
            if TYPES.get(name) == "TIMESTAMPTZ":
                instant = dt.datetime.fromisoformat(text).timestamp() * 1000 if text else None
                assert value == instant
            elif isinstance(value, Decimal):
                assert value == Decimal(text)
            else:
                assert str(value) == text


def test_amounts_and_instants_have_types(tmp_path):
    write_parquet(EXAMPLES / "march.charges.csv", tmp_path / "x.parquet")
    with duckdb.connect() as connection:
        found = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(tmp_path / "x.parquet")])
        types = {row[0]: row[1] for row in found.fetchall()}
    assert types["net"] == "DECIMAL(38,2)"
    assert types["from"] == "TIMESTAMP WITH TIME ZONE"
    assert types["tenant"] == types["weight"] == "VARCHAR"


def test_a_header_alone_is_an_empty_table(tmp_path):
    source = tmp_path / "x.csv"
    source.write_text("period,tenant,net\n")
    write_parquet(source, tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet") == (["period", "tenant", "net"], [])


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(NoParquetError, match="seatd\\[parquet\\]"):
        write_parquet(EXAMPLES / "march.charges.csv", tmp_path / "x.parquet")
