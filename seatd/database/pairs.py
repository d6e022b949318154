"""Find rows by many pairs of texts in one statement, however many pairs there are.

An IN list is compiled anew for every length and bounded by the number of parameters; this is neither.  Decides
only how both databases are asked; which table and which columns is the caller's.
"""

import json
from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import ARRAY, Column, ColumnElement, Select, Text, and_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

_QUERIES: Final = 64

Pair = tuple[Column[str], Column[str]]


def matching(
    connection: AsyncConnection,
    columns: Collection[ColumnElement[Any]],
    key: Pair,
    pairs: Collection[tuple[str, str]],
) -> tuple[Select[Any], dict[str, Any]]:
    """Give the query, and its parameters, of the rows whose two `key` columns are one of `pairs`.

    The columns are to be a unique key, and the pairs distinct.
    """
    name = connection.dialect.name
    query = _query(name, tuple(columns), key)
    if name == "sqlite":
        return query, {"pairs": json.dumps(list(pairs))}
    return query, {"firsts": [one for one, _ in pairs], "seconds": [other for _, other in pairs]}


@lru_cache(maxsize=_QUERIES)
def _query(dialect: str, columns: tuple[ColumnElement[Any], ...], key: Pair) -> Select[Any]:
    """Make the query, which costs more than to run it for a few pairs."""
    if dialect == "sqlite":
        wanted: Any = func.json_each(bindparam("pairs", type_=Text)).table_valued("value").alias("wanted")
        first, second = (func.json_extract(wanted.c.value, path) for path in ("$[0]", "$[1]"))
    else:
        lists = (bindparam("firsts", type_=ARRAY(Text)), bindparam("seconds", type_=ARRAY(Text)))
        wanted = func.unnest(*lists).table_valued("first", "second").render_derived().alias("wanted")
        first, second = wanted.c.first, wanted.c.second
    # Few pairs against a large table: the pairs lead, and each is one search of the key.
    return select(*columns).select_from(wanted.join(key[0].table, and_(key[0] == first, key[1] == second)))
