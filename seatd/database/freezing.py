"""Which months are frozen, and how writers of facts and whoever freezes a month keep out of each other's way.

Decides the order: whoever writes facts holds a lock that is shared, and looks which months are frozen only then; whoever freezes
one holds it alone.  So a fact either stands before its month is frozen, and is billed with it, or its writer
knows that it is late.  On SQLite writers take turns anyway.  What is a fact, and what becomes of a late one, is not known here.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.database.engine import inserting
from seatd.database.schema import late_facts, months

LOCK: Final = 0x5EA7F
"""Of PostgreSQL's advisory locks, the one of facts; the triggers of migration 0003 take it as well."""


class Frozen(NamedTuple):
    """A frozen month, `[start_ms, end_ms)`; of an `archived` one nothing more can be known, late or not."""

    period: str
    start_ms: int
    end_ms: int
    archived: bool = False


async def share(connection: AsyncConnection) -> tuple[Frozen, ...]:
    """Keep months from being frozen to the end of the transaction, and list those that are."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock_shared(:lock)"), {"lock": LOCK})
    return await frozen(connection)


async def alone(connection: AsyncConnection) -> None:
    """Keep everybody else from writing facts to the end of the transaction."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})


async def frozen(connection: AsyncConnection) -> tuple[Frozen, ...]:
    """List the months that are frozen, in order."""
    row = months.c
    query = select(row.period, row.start_ms, row.end_ms, row.archived_ms.is_not(None)).order_by(row.start_ms)
    return tuple(Frozen(*values) for values in await connection.execute(query))


async def note_late(connection: AsyncConnection, facts: Iterable[tuple[str, str]]) -> None:
    """Note `(period, tenant)` of which something became known after the month was frozen."""
    rows = [{"period": period, "tenant": tenant} for period, tenant in sorted(set(facts))]
    if rows:
        statement = inserting(connection, late_facts).on_conflict_do_nothing(
            index_elements=["period", "tenant"]
        )
        await connection.execute(statement, rows)
