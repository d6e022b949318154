"""Price lists in SQL: each as it was sent, under its version, never changed.

What the text says is not read here; whoever adds one has read it.
"""

from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import literal, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.database.engine import inserting
from seatd.database.schema import outbox, price_lists, tenants
from seatd.model import Refusal


@dataclass(frozen=True, slots=True)
class StoredList:
    """A price list as it was sent; `valid_from` is a local date, `digest` the SHA-256 (hex) of the text."""

    version: str
    valid_from: str
    toml: str
    digest: str
    added_ms: int


async def add(
    connection: AsyncConnection, *, version: str, valid_from: str, toml: str, now_ms: int
) -> StoredList | None:
    """Keep a price list; None where the same stood already.

    Raises `Refusal` `conflict` for other content under a version.
    """
    digest = sha256(toml.encode()).hexdigest()
    made = await connection.execute(
        inserting(connection, price_lists)
        .values(version=version, valid_from=valid_from, toml=toml, digest=digest, added_ms=now_ms)
        .on_conflict_do_nothing(index_elements=["version"])
    )
    if made.rowcount:
        return StoredList(version, valid_from, toml, digest, now_ms)
    row = price_lists.c
    stands = select(row.version).where(row.version == version, row.digest == digest)
    if (await connection.execute(stands)).one_or_none():
        return None
    raise Refusal(
        "conflict", f"Price list {version} stands with other content; give a new one a new version."
    )


async def check_date(connection: AsyncConnection, version: str, valid_from: str) -> None:
    """Raise `Refusal` `conflict` where another list is valid from the same date: no month could be rated with two.

    To be asked after the audit row was written: whoever adds a list waits there for the others.
    """
    row = price_lists.c
    query = select(row.version).where(row.valid_from == valid_from, row.version != version)
    if other := (await connection.execute(query)).scalars().first():
        raise Refusal("conflict", f"Price list {other} is valid from {valid_from} as well.")


async def listed(connection: AsyncConnection) -> tuple[StoredList, ...]:
    """List all price lists, by the date from which they are valid."""
    row = price_lists.c
    query = select(row.version, row.valid_from, row.toml, row.digest, row.added_ms)
    found = await connection.execute(query.order_by(row.valid_from, row.version))
    return tuple(StoredList(*values) for values in found)


async def project_all(connection: AsyncConnection, due_ms: int) -> None:
    """Have the policies of all tenants projected again at `due_ms`, when other products are sold to them."""
    due = select(tenants.c.id, literal(due_ms), true()).order_by(tenants.c.id)
    await connection.execute(outbox.insert().from_select(["tenant", "due_ms", "scheduled"], due))
