"""SQLite for asyncio with one step into the connection's thread a statement, rather than four.

aiosqlite makes the cursor, executes, fetches and closes in a step each, and every step waits for the interpreter to change
threads twice.  Here a statement and its first rows are one step, and a rollback where nothing was begun is none.  Decides
nothing else: threads, order and errors are aiosqlite's, and whoever asks for many rows gets them in chunks as before.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Self

import aiosqlite

CHUNK: Final = 1_000
"""Rows that come with their statement."""


class Statement(NamedTuple):
    """A statement with `?` for its parameters: run once for each of `many`, or once without any and its rows fetched."""

    sql: str
    many: Sequence[tuple[Any, ...]] | None = None


class _Ran(NamedTuple):
    """What a statement came to: `rest` is its cursor, where there may be more rows."""

    description: Any
    rowcount: int
    lastrowid: int | None
    rows: list[Any]
    rest: sqlite3.Cursor | None


_NOTHING: Final = _Ran(None, -1, None, [], None)


def _run(connection: sqlite3.Connection, sql: str, parameters: Any, many: bool) -> _Ran:
    cursor = connection.executemany(sql, parameters) if many else connection.execute(sql, parameters)
    rows = cursor.fetchmany(CHUNK) if cursor.description else []
    ran = _Ran(cursor.description, cursor.rowcount, cursor.lastrowid, rows, cursor)
    if len(rows) == CHUNK:
        return ran
    cursor.close()  # in its own thread
    return ran._replace(rest=None)


class Cursor:
    """One statement at a time, as SQLAlchemy's adapter of aiosqlite uses a cursor."""

    arraysize = 1

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._ran = _NOTHING

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> Self:
        """Run a statement and fetch its first rows."""
        await self._anew(sql, parameters, many=False)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Any]) -> Self:
        """Run a statement once for each set of parameters."""
        await self._anew(sql, parameters, many=True)
        return self

    async def _anew(self, sql: str, parameters: Iterable[Any], *, many: bool) -> None:
        await self.close()
        self._ran = await self._connection.run(_run, sql, parameters, many)

    @property
    def description(self) -> Any:
        """What the columns are, None where there are none."""
        return self._ran.description

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""
        return self._ran.rowcount

    @property
    def lastrowid(self) -> int | None:
        """The row that was inserted last."""
        return self._ran.lastrowid

    async def fetchone(self) -> Any:
        """Give the next row, None at the end."""
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        """Give up to so many rows."""
        size = size or self.arraysize
        ran = self._ran
        if ran.rest is not None and len(ran.rows) < size:
            ran.rows.extend(await self._connection.step(ran.rest.fetchmany, size - len(ran.rows)))
        rows = ran.rows[:size]
        del ran.rows[:size]
        return rows

    async def fetchall(self) -> Sequence[Any]:
        """Give the rows that are left."""
        rows, rest = [*self._ran.rows], self._ran.rest
        self._ran.rows.clear()
        if rest is not None:
            rows += await self._connection.step(rest.fetchall)
            await self.close()
        return rows

    async def close(self) -> None:
        """Let go of the rows that nobody fetched."""
        rest = self._ran.rest
        if rest is not None:
            self._ran = self._ran._replace(rest=None)
            await self._connection.step(rest.close)


class Connection(aiosqlite.Connection):
    """A connection of aiosqlite, with these cursors."""

    def step(self, doing: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        """Do something in the connection's thread."""
        return self._execute(doing, *arguments)  # type: ignore[no-untyped-call]

    def run(self, doing: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        """Do something with the connection itself, in its thread."""
        return self.step(doing, self._conn, *arguments)

    def cursor(self) -> Cursor:  # type: ignore[override]
        """Make a cursor; nothing is done before it is used."""
        return Cursor(self)

    async def rollback(self) -> None:
        """Roll back what was begun, if anything was."""
        if self._conn.in_transaction:
            await super().rollback()


def transaction(connection: sqlite3.Connection, statements: Iterable[Statement]) -> list[Any]:
    """Run statements in one write transaction, in the connection's thread; gives the rows of the last one."""
    rows: list[Any] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql, many in statements:
            if many is None:
                rows = connection.execute(sql).fetchall()
            else:
                connection.executemany(sql, many)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return rows


def connect(database: str, **options: Any) -> Connection:
    """Make a connection, which is opened when it is awaited; `options` are those of `sqlite3.connect`."""
    connection = Connection(lambda: sqlite3.connect(database, **options), iter_chunk_size=CHUNK)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does: nobody waits for it at the end of the process
    return connection
