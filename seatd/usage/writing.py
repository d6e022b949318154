"""Write usage events into the ledger, within the transaction that the recorder opened.

Decides how rows are joined with those that stand: leases by `fold`, the fuller of two samples of a minute, the
earlier of two denials of one person, reason and minute.  So writing the same events again, in any mixture,
changes nothing.  Everything goes in bulk, a few statements for any number of events.  No cursor is
known here, and nothing is committed.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import case
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.database.engine import inserting
from seatd.database.pairs import matching
from seatd.database.schema import denials, ledger_leases, samples
from seatd.model import UsageEvent
from seatd.usage.fold import Known, join, known_from

MINUTE_MS: Final = 60_000

Key = tuple[str, str]
PersonsFor = Callable[[AsyncConnection, Iterable[Key]], Awaitable[Mapping[Key, str]]]
"""Gives the random id of each `(tenant, user name)` in this transaction, making those that are new."""

_LEASE_COLUMNS: Final = tuple(Known._fields)
_SAMPLE_COLUMNS: Final = ("in_use", "peak", "capacity", "waiting", "denied")


async def write(
    connection: AsyncConnection, partition: int, events: Iterable[UsageEvent], persons_for: PersonsFor
) -> None:
    """Write events of one partition, whose cursor the transaction holds: nobody else writes its leases."""
    of_leases: list[UsageEvent] = []
    refused: list[UsageEvent] = []
    full: list[UsageEvent] = []
    for event in events:
        if event.kind == "sample":
            full.append(event)
        elif event.kind == "denied":
            refused.append(event)
        else:
            of_leases.append(event)
    known = await _known(connection, {(event.tenant, event.lease) for event in of_leases})
    persons = await persons_for(connection, _unknown_people(of_leases, refused, known))
    await _write_leases(connection, partition, _folded(of_leases, known, persons), known)
    await _write_denials(connection, refused, persons)
    await _write_samples(connection, full)


async def _known(connection: AsyncConnection, leases: set[Key]) -> dict[Key, Known]:
    row = ledger_leases.c
    columns = [row[name] for name in ("tenant", "lease", *_LEASE_COLUMNS)]
    query, wanted = matching(connection, columns, (row.tenant, row.lease), sorted(leases))
    found = await connection.execute(query, wanted)
    return {(tenant, lease): Known(*values) for tenant, lease, *values in found}


def _unknown_people(
    of_leases: Iterable[UsageEvent], refused: Iterable[UsageEvent], known: Mapping[Key, Known]
) -> set[Key]:
    """Name who has to be looked up: not the user of a lease that is known.

    So the end of a lease does not bring back a name that was erased while it was open.
    """
    people = {(event.tenant, event.user) for event in refused}
    people.update(
        (event.tenant, event.user) for event in of_leases if (event.tenant, event.lease) not in known
    )
    return people


def _folded(
    events: Iterable[UsageEvent], known: Mapping[Key, Known], persons: Mapping[Key, str]
) -> dict[Key, Known]:
    folded: dict[Key, Known] = {}
    for event in events:
        key = (event.tenant, event.lease)
        before = folded.get(key) or known.get(key)
        person = before.person if before else persons[event.tenant, event.user]
        piece = known_from(event, person)
        folded[key] = join(before, piece) if before else piece
    return folded


async def _write_leases(
    connection: AsyncConnection, partition: int, folded: Mapping[Key, Known], known: Mapping[Key, Known]
) -> None:
    rows = [
        {"tenant": tenant, "lease": lease, "partition": partition, **now._asdict()}
        for (tenant, lease), now in folded.items()
        if now != known.get((tenant, lease))
    ]
    if not rows:
        return
    statement = inserting(connection, ledger_leases)
    kept = {name: statement.excluded[name] for name in _LEASE_COLUMNS}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["tenant", "lease"], set_=kept), rows
    )


async def _write_denials(
    connection: AsyncConnection, refused: Iterable[UsageEvent], persons: Mapping[Key, str]
) -> None:
    rows: dict[tuple[str, str, str, int], int] = {}
    for event in refused:
        person = persons[event.tenant, event.user]
        minute_ms = event.at_ms - event.at_ms % MINUTE_MS
        key = (event.tenant, person, event.reason, minute_ms)
        rows[key] = min(event.at_ms, rows.get(key, event.at_ms))
    if not rows:
        return
    names = ("tenant", "person", "reason", "minute_ms")
    statement = inserting(connection, denials)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=names,
            set_={"at_ms": statement.excluded.at_ms},
            where=statement.excluded.at_ms < denials.c.at_ms,
        ),
        [{**dict(zip(names, key, strict=True)), "at_ms": at_ms} for key, at_ms in sorted(rows.items())],
    )


async def _write_samples(connection: AsyncConnection, full: Iterable[UsageEvent]) -> None:
    rows: dict[tuple[str, int], tuple[int, ...]] = {}
    for event in full:
        key = (event.tenant, event.at_ms)
        rows[key] = tuple(map(max, event.numbers, rows.get(key, event.numbers)))
    if not rows:
        return
    statement = inserting(connection, samples)
    fuller: dict[str, Any] = {
        name: case(
            (statement.excluded[name] > samples.c[name], statement.excluded[name]), else_=samples.c[name]
        )
        for name in _SAMPLE_COLUMNS
    }
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["tenant", "minute_ms"], set_=fuller),
        [
            {"tenant": tenant, "minute_ms": minute_ms, **dict(zip(_SAMPLE_COLUMNS, numbers, strict=True))}
            for (tenant, minute_ms), numbers in sorted(rows.items())
        ],
    )
