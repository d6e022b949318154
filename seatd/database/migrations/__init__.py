"""Bring a database to the newest schema, and tell which one it has.

Decides how migrations run: all of them in one transaction that no second process can enter, so that a
start either finds the old schema or the new one.  The revisions lie in `versions/`, written by hand; what
the newest one makes equals `seatd.database.schema`, which a test compares on both databases.
"""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.database.engine import make_engine, reading, writing
from seatd.database.schema import metadata

TIMEOUT_S: Final = 600
_LOCK: Final = 0x5EA7D
"""Of PostgreSQL's advisory locks, the one that migrations take."""


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def newest() -> str:
    """Name the newest revision that this seatd knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError("seatd was installed without its migrations")
    return head


async def upgrade(url: str) -> str:
    """Bring the database at `url` to the newest revision, and name it.

    Safe when several processes start at once: the later ones wait, and find nothing left to do.
    Raises what `writing` raises, and alembic's `CommandError` where the database is newer than seatd.
    """
    engine = make_engine(url, pool_size=1, command_timeout_s=TIMEOUT_S)
    try:
        async with writing(engine) as connection:
            await _alone(connection)
            await connection.run_sync(lambda sync: command.upgrade(_config(sync), "head"))
    finally:
        await engine.dispose()
    return newest()


async def _alone(connection: AsyncConnection) -> None:
    # On SQLite BEGIN IMMEDIATE has done it.
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"SET LOCAL lock_timeout = '{TIMEOUT_S}s'"))
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


async def current(url: str) -> str | None:
    """Name the revision that the database at `url` has; None where it was never migrated."""
    engine = make_engine(url, pool_size=1)
    try:
        async with reading(engine) as connection:
            return await connection.run_sync(
                lambda sync: MigrationContext.configure(sync).get_current_revision()
            )
    finally:
        await engine.dispose()


async def check(url: str) -> list[str]:
    """List in what the database at `url` differs from the schema that this seatd works with."""
    engine = make_engine(url, pool_size=1, command_timeout_s=TIMEOUT_S)
    try:
        async with reading(engine) as connection:
            return await connection.run_sync(_differences)
    finally:
        await engine.dispose()


def _differences(connection: Connection) -> list[str]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return [str(difference) for difference in compare_metadata(context, metadata)]
