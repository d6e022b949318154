"""Who is who: the one map from a person's random id to the name that a client gives.

Bindings, the ledger and every export know the id only, so that erasing a name here erases it everywhere.  A name
that comes again after it was erased is a new person.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts.tokens import random_id
from seatd.database.engine import inserting
from seatd.database.pairs import matching
from seatd.database.schema import people

_CHUNK: Final = 500


def new_id() -> str:
    """Make the id of a new person."""
    return random_id("p_", 16)


async def persons_for(
    connection: AsyncConnection, pairs: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """Give the person id of each `(tenant, user name)`, making those that are new.

    Sorted before they are written: two recorders never wait for each other in a circle.
    """
    wanted = iter(sorted(set(pairs)))
    found: dict[tuple[str, str], str] = {}
    while chunk := list(islice(wanted, _CHUNK)):
        found |= await _known(connection, chunk)
        missing = [pair for pair in chunk if pair not in found]
        if missing:
            await _make(connection, missing)
            found |= await _known(connection, missing)
    return found


async def person_of(connection: AsyncConnection, tenant: str, name: str) -> str:
    """Give the person id of one name, making it where it is new."""
    return (await persons_for(connection, [(tenant, name)]))[tenant, name]


async def known(connection: AsyncConnection, tenant: str, name: str) -> str | None:
    """Give the person id of one name; None where nobody of that name was ever seen."""
    return (await _known(connection, [(tenant, name)])).get((tenant, name))


async def names_of(connection: AsyncConnection, tenant: str, persons: Iterable[str]) -> dict[str, str]:
    """Give the names of these persons; those that were erased, or never were, are left out."""
    wanted = iter(sorted(set(persons)))
    found: dict[str, str] = {}
    while chunk := list(islice(wanted, _CHUNK)):
        query = select(people.c.person, people.c.name).where(
            people.c.tenant == tenant, people.c.person.in_(chunk), people.c.name.is_not(None)
        )
        found |= {row.person: row.name for row in await connection.execute(query)}
    return found


async def forget(connection: AsyncConnection, tenant: str, person: str) -> None:
    """Erase a person's name; the id and what is known of it stay."""
    await connection.execute(
        update(people).where(people.c.tenant == tenant, people.c.person == person).values(name=None)
    )


async def named(connection: AsyncConnection, tenant: str) -> set[str]:
    """Give the ids of all whose names stand."""
    query = select(people.c.person).where(people.c.tenant == tenant, people.c.name.is_not(None))
    return set((await connection.execute(query)).scalars())


async def forget_all(connection: AsyncConnection, tenant: str, persons: Iterable[str]) -> None:
    """Erase the names of many."""
    wanted = iter(sorted(persons))
    while chunk := list(islice(wanted, _CHUNK)):
        here = (people.c.tenant == tenant, people.c.person.in_(chunk))
        await connection.execute(update(people).where(*here).values(name=None))


async def _known(connection: AsyncConnection, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    row = people.c
    query, wanted = matching(connection, (row.tenant, row.name, row.person), (row.tenant, row.name), pairs)
    found = await connection.execute(query, wanted)
    return {(tenant, name): person for tenant, name, person in found}


async def _make(connection: AsyncConnection, pairs: list[tuple[str, str]]) -> None:
    rows = [{"tenant": tenant, "person": new_id(), "name": name} for tenant, name in pairs]
    # Another recorder may have made the same name meanwhile: then its id holds.
    statement = inserting(connection, people).on_conflict_do_nothing(index_elements=["tenant", "name"])
    await connection.execute(statement, rows)
