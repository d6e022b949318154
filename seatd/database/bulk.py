"""Insert many rows in one statement, as fast as each database takes them.

SQLAlchemy binds every value of every row by name; for the ledger's thousands of rows a second that is most of the work.
Decides only how rows travel: tuples through the driver on SQLite, a list a column on PostgreSQL.  No table is named here.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import JSON, Table
from sqlalchemy.ext.asyncio import AsyncConnection


async def insert_many(
    connection: AsyncConnection,
    table: Table,
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    conflict: str = "",
) -> None:
    """Insert rows, whose values are in the order of `names`; JSON columns are given as text.

    `conflict` is an `ON CONFLICT` clause, which both databases read alike; no two rows may be in conflict with each
    other.
    """
    if not rows:
        return
    head = f"INSERT INTO {table.name} ({', '.join(_quoted(name) for name in names)})"
    if connection.dialect.name == "sqlite":
        places = ", ".join("?" * len(names))
        await connection.exec_driver_sql(f"{head} VALUES ({places}) {conflict}", list(rows))
        return
    kinds = [_kind(table, name) for name in names]
    lists = ", ".join(f"${number}::{kind}[]" for number, (kind, _) in enumerate(kinds, 1))
    columns = ", ".join(f"c{number}{cast}" for number, (_, cast) in enumerate(kinds, 1))
    aliases = ", ".join(f"c{number}" for number in range(1, len(kinds) + 1))
    await connection.exec_driver_sql(
        f"{head} SELECT {columns} FROM unnest({lists}) AS given ({aliases}) {conflict}",  # noqa: S608 - names of our schema
        tuple(map(list, zip(*rows, strict=True))),
    )


def _quoted(name: str) -> str:
    return f'"{name}"'


def _kind(table: Table, name: str) -> tuple[str, str]:
    """Tell as what a column travels, and what is cast of it on arrival."""
    kind = table.c[name].type
    if isinstance(kind, JSON):
        return "text", "::json"
    return ("bigint", "") if kind.python_type is int else ("text", "")
