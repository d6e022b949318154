"""Open the account database, and begin its transactions.

Decides how both databases are spoken to: SQLite with WAL, synchronous=FULL and BEGIN IMMEDIATE for whoever
writes, so that a writer never finds at its commit that another was first; PostgreSQL at READ COMMITTED for writers,
who take row locks (see `locked`) and see in every statement after the lock what is committed.
This is also the one place where "the database is away" becomes a refusal.  No table is named here.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from itertools import count
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import URL, Connection, Select, Table, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from seatd.database import sqlite_driver
from seatd.database.sqlite_driver import Statement
from seatd.model import Refusal

CONNECT_TIMEOUT_S: Final = 3
COMMAND_TIMEOUT_S: Final = 10
LOCK_TIMEOUT_MS: Final = 5_000
RETRY_AFTER_MS: Final = 1_000
POOL_SIZE: Final = 5

_DRIVERS: Final = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}

# SQLSTATEs that mean "not now": connection lost, out of resources, shutting down or starting up.
_AWAY_STATES: Final = ("08", "53", "57P", "58")
# Serialization failure, deadlock, lock not available, cancelled after a timeout.
_BUSY_STATES: Final = ("40001", "40P01", "55P03", "57014")
# What the triggers of closed months say.
_FROZEN: Final = "of a closed month"
_SQLITE_AWAY: Final = ("unable to open", "disk i/o error", "disk is full", "readonly database")
_SQLITE_BUSY: Final = ("database is locked", "database table is locked")

_writers: WeakKeyDictionary[AsyncEngine, asyncio.Lock] = WeakKeyDictionary()


def normalise(url: str) -> URL:
    """Give the URL with the asynchronous driver that seatd uses.

    Raises `ValueError` for a database that is neither SQLite in a file nor PostgreSQL; the message
    holds no password.
    """
    parsed = make_url("postgresql" + url[len("postgres") :] if url.startswith("postgres://") else url)
    backend = parsed.get_backend_name()
    if backend not in _DRIVERS:
        raise ValueError(f"{backend}: the database must be sqlite or postgresql")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ValueError("sqlite: name a file, as in sqlite:////var/lib/seatd/seatd.db")
    return parsed.set(drivername=_DRIVERS[backend])


def make_engine(
    url: str, *, pool_size: int = POOL_SIZE, command_timeout_s: float = COMMAND_TIMEOUT_S
) -> AsyncEngine:
    """Make the engine of `url`; nothing is opened before it is used.

    Dispose of it with `await engine.dispose()`.  Raises `ValueError` as `normalise` does.
    """
    parsed = normalise(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed, pool_size)
    return create_async_engine(
        parsed,
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,  # no user's name in a log line
        pool_timeout=CONNECT_TIMEOUT_S,
        pool_use_lifo=True,
        isolation_level="READ COMMITTED",
        connect_args={
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": command_timeout_s,
            "server_settings": {
                "application_name": "seatd",
                "lock_timeout": str(LOCK_TIMEOUT_MS),
                "idle_in_transaction_session_timeout": "30000",
            },
        },
    )


def _sqlite_engine(url: URL, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,  # no user's name in a log line
        pool_timeout=CONNECT_TIMEOUT_S,
        connect_args={"timeout": LOCK_TIMEOUT_MS / 1000, "async_creator_fn": sqlite_driver.connect},
    )
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself: it would begin deferred ones, and only before DML.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {LOCK_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("seatd_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Read in one transaction, all of it as of one instant; it is rolled back at the end.

    Raises `Refusal("database_unavailable")` where the database is away, `Refusal("busy")` where it is not
    answering in time because of others.
    """
    try:
        async with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                await connection.execution_options(isolation_level="REPEATABLE READ")
            async with connection.begin() as transaction:
                yield connection
                await transaction.rollback()
    except Exception as error:
        refusal = _translated(error)
        if refusal is None:
            raise
        raise refusal from error


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Write in one transaction: committed at the end of the block, rolled back if it raises.

    Raises what `reading` raises.  After a refusal that came at the commit itself, the change may stand.
    """
    try:
        async with _turn(engine), engine.connect() as connection:
            await connection.execution_options(seatd_writes=True)
            async with connection.begin():
                yield connection
    except Exception as error:
        refusal = _translated(error)
        if refusal is None:
            raise
        raise refusal from error


async def write_at_once(engine: AsyncEngine, statements: Sequence[Statement]) -> list[tuple[Any, ...]]:
    """Write in one transaction of statements that are known beforehand; gives the rows of the last one.

    On SQLite all of them are one step into the connection's thread: each would cost more than it does, where much else
    goes on.  Raises what `writing` raises.
    """
    if engine.dialect.name != "sqlite":
        rows: list[tuple[Any, ...]] = []
        async with writing(engine) as connection:
            for sql, many in statements:
                if many is None:
                    rows = [tuple(row) for row in await connection.exec_driver_sql(sql)]
                elif many:
                    await connection.exec_driver_sql(_numbered(sql), list(many))
        return rows
    try:
        async with _turn(engine), engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            found: list[tuple[Any, ...]] = await driver.run(sqlite_driver.transaction, statements)
    except Exception as error:
        refusal = _translated(error)
        if refusal is None:
            raise
        raise refusal from error
    return found


@lru_cache(maxsize=64)
def _numbered(sql: str) -> str:
    """Give a statement's parameters their numbers, as PostgreSQL wants them."""
    numbers = count(1)
    first, *rest = sql.split("?")
    return first + "".join(f"${next(numbers)}{part}" for part in rest)


@asynccontextmanager
async def _turn(engine: AsyncEngine) -> AsyncIterator[None]:
    # SQLite has one writer at a time and lets the others poll; within a process they queue up instead.
    if engine.dialect.name != "sqlite":
        yield
        return
    async with _writers.setdefault(engine, asyncio.Lock()):
        yield


def _translated(error: Exception) -> Refusal | None:
    """Give the refusal that `error` means; None where it is no matter of the database's absence."""
    if isinstance(error, DBAPIError):
        lost = error.connection_invalidated or isinstance(error, InterfaceError)
        return _of_driver(error.orig, lost=lost)
    if isinstance(error, sqlite3.Error):
        return _of_driver(error, lost=False)
    if isinstance(error, OSError | PoolTimeoutError):  # a TimeoutError is an OSError
        return _away()
    return None


def _of_driver(error: BaseException | None, *, lost: bool) -> Refusal | None:
    state = getattr(error, "sqlstate", None) or ""
    text = str(error).lower()
    if state in _BUSY_STATES or any(part in text for part in _SQLITE_BUSY):
        return Refusal("busy", "The account database is busy.", retry_after_ms=RETRY_AFTER_MS)
    if _FROZEN in text:
        return Refusal("conflict", "This is of a closed month, which nothing changes any more.")
    if lost or state.startswith(_AWAY_STATES):
        return _away()
    return _away() if any(part in text for part in _SQLITE_AWAY) else None


def _away() -> Refusal:
    return Refusal("database_unavailable", retry_after_ms=RETRY_AFTER_MS)


def locked(query: Select[Any]) -> Select[Any]:
    """Give the query with its rows locked to the end of the transaction (SQLite: `writing` is enough)."""
    return query.with_for_update()


def inserting(connection: AsyncConnection, table: Table) -> Any:
    """Start an INSERT that may say `on_conflict_do_nothing` or `on_conflict_do_update`."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)
