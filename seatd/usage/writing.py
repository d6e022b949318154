"""Write usage events into the ledger, within the transaction that the recorder opened.

Decides how rows are joined with those that stand: leases by `fold`, the fuller of two samples of a minute, the
earlier of two denials of one person, reason and minute.  So writing the same events again, in any mixture,
changes nothing.  Every new version of a lease or a denial is appended to the partition's chain.  What would change a
frozen month is kept apart, as known late (`late_leases`), and noted.  Everything goes in bulk, a few statements for
any number of events.  No cursor is known here, and nothing is committed.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Text, cast
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.database import freezing
from seatd.database.bulk import insert_many
from seatd.database.freezing import Frozen
from seatd.database.pairs import matching
from seatd.database.schema import denials, late_leases, ledger_leases, samples
from seatd.model import UsageEvent
from seatd.telemetry import log
from seatd.usage import chain
from seatd.usage.fold import Known, changed_months, join, known_from

MINUTE_MS: Final = 60_000

Key = tuple[str, str]
PersonsFor = Callable[[AsyncConnection, Iterable[Key]], Awaitable[Mapping[Key, str]]]
"""Gives the random id of each `(tenant, user name)` in this transaction, making those that are new."""

_LEASE_COLUMNS: Final = tuple(Known._fields)


def _as_kept(row: Any) -> list[ColumnElement[Any]]:
    """Name the columns of what is known of a lease, labels as the text that is kept: nearly all are empty."""
    return [cast(row[name], Text) if name == "labels" else row[name] for name in _LEASE_COLUMNS]


_IN_TIME: Final = (ledger_leases.c.tenant, ledger_leases.c.lease, *_as_kept(ledger_leases.c))
_LATE: Final = (late_leases.c.pos, late_leases.c.tenant, late_leases.c.lease, *_as_kept(late_leases.c))
_SAMPLE_COLUMNS: Final = ("in_use", "peak", "capacity", "waiting", "denied")
_LABELS: Final = _LEASE_COLUMNS.index("labels")
_NO_LABELS: Final = "{}"


async def write(
    connection: AsyncConnection, partition: int, events: Iterable[UsageEvent], persons_for: PersonsFor
) -> None:
    """Write events of one partition, whose cursor the transaction holds: nobody else records it."""
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
    ledger = await Writer.begin(connection, partition)
    known = await ledger.known({(event.tenant, event.lease) for event in of_leases})
    persons = await persons_for(connection, _unknown_people(of_leases, refused, known))
    await ledger.leases(_folded(of_leases, known, persons), known)
    await ledger.denials(refused, persons)
    await _write_samples(connection, full, ledger.frozen)


class Writer:
    """Writes rows of one partition and their chain; whoever has one keeps others from it to the end of the transaction."""

    def __init__(
        self, connection: AsyncConnection, partition: int, frozen: tuple[Frozen, ...], head: chain.Head
    ) -> None:
        """Take what `begin` found; use that."""
        self._connection = connection
        self._partition = partition
        self.frozen = frozen
        self._head = head

    @classmethod
    async def begin(cls, connection: AsyncConnection, partition: int) -> "Writer":
        """Hold the partition's chain, and keep months from being frozen meanwhile."""
        frozen = await freezing.share(connection)
        return cls(connection, partition, frozen, await chain.hold(connection, partition))

    async def known(self, leases: set[Key]) -> dict[Key, Known]:
        """Give what is known of leases, what became known late included."""
        row = ledger_leases.c
        query, wanted = matching(self._connection, _IN_TIME, (row.tenant, row.lease), sorted(leases))
        found = await self._connection.execute(query, wanted)
        known = {(tenant, lease): Known(*_read(values)) for tenant, lease, *values in found}
        return known | await self._known_late(leases) if self.frozen else known

    async def _known_late(self, leases: set[Key]) -> dict[Key, Known]:
        row = late_leases.c
        query, wanted = matching(self._connection, _LATE, (row.tenant, row.lease), sorted(leases))
        versions = sorted(tuple(each) for each in await self._connection.execute(query, wanted))
        return {(tenant, lease): _Late(*_read(values)) for _, tenant, lease, *values in versions}

    async def leases(self, folded: Mapping[Key, Known], known: Mapping[Key, Known]) -> None:
        """Write what is known of leases now, where it is not what was known before."""
        changed = [(key, now) for key, now in folded.items() if now != known.get(key)]
        archived = [month for month in self.frozen if month.archived]
        if archived:
            changed = [
                (key, now) for key, now in changed if not _left_out(key, known.get(key), now, archived)
            ]
        first = self._head.pos + 1
        rows = [
            ("lease", *key, now.person, now.tariff, now.started_ms, now.ended_ms, now.end_reason)
            for key, now in changed
        ]
        self._head = await chain.append(self._connection, self._partition, self._head, rows)
        in_time: list[tuple[Any, ...]] = []
        late: list[tuple[Any, ...]] = []
        noted: set[tuple[str, str]] = set()
        for pos, (key, now) in enumerate(changed, first):
            before = known.get(key)
            periods = changed_months(before, now, self.frozen)
            noted.update((period, key[0]) for period in periods)
            kept = late if periods or isinstance(before, _Late) else in_time
            kept.append((*key, self._partition, pos, *_columns(now)))
        names = ("tenant", "lease", "partition", "pos", *_LEASE_COLUMNS)
        await insert_many(self._connection, ledger_leases, names, in_time, _LEASE_CONFLICT)
        await insert_many(self._connection, late_leases, names, late)
        await freezing.note_late(self._connection, noted)

    async def denials(self, refused: Iterable[UsageEvent], persons: Mapping[Key, str]) -> None:
        """Write refused acquires; of a frozen month only what was not known."""
        first: dict[tuple[str, str, str, int], int] = {}
        for event in refused:
            person = persons[event.tenant, event.user]
            key = (event.tenant, person, event.reason, event.at_ms - event.at_ms % MINUTE_MS)
            first[key] = min(event.at_ms, first.get(key, event.at_ms))
        rows = [(*key, at_ms) for key, at_ms in sorted(first.items())]
        chained = [("denied", tenant, person, reason, at_ms) for tenant, person, reason, _, at_ms in rows]
        self._head = await chain.append(self._connection, self._partition, self._head, chained)
        names = ("tenant", "person", "reason", "minute_ms", "at_ms")
        open_rows, frozen_rows = _parted(rows, 3, self.frozen)
        await insert_many(self._connection, denials, names, open_rows, _DENIAL_CONFLICT)
        await insert_many(self._connection, denials, names, frozen_rows, "ON CONFLICT DO NOTHING")


class _Late(Known):
    """What is known of a lease since a month that it lies in was frozen: it is never told in time again."""

    __slots__ = ()


_LEASE_CONFLICT: Final = "ON CONFLICT (tenant, lease) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in ("pos", *_LEASE_COLUMNS)
)
_DENIAL_CONFLICT: Final = (
    "ON CONFLICT (tenant, person, reason, minute_ms) DO UPDATE SET at_ms = excluded.at_ms"
    " WHERE excluded.at_ms < denials.at_ms"
)
_SAMPLE_CONFLICT: Final = "ON CONFLICT (tenant, minute_ms) DO UPDATE SET " + ", ".join(
    f"{name} = CASE WHEN excluded.{name} > samples.{name} THEN excluded.{name} ELSE samples.{name} END"
    for name in _SAMPLE_COLUMNS
)


def _left_out(key: Key, before: Known | None, now: Known, archived: list[Frozen]) -> bool:
    """Tell whether it is of an archived month that this tells something else: what was is not known there any more."""
    late = changed_months(before, now, archived)
    if late:
        log.warning("usage of an archived month left out", tenant=key[0], lease=key[1], months=late)
    return bool(late)


def _read(values: list[Any]) -> list[Any]:
    labels = values[_LABELS]
    values[_LABELS] = {} if labels == _NO_LABELS else json.loads(labels)
    return values


def _columns(known: Known) -> tuple[Any, ...]:
    labels = json.dumps(dict(known.labels)) if known.labels else _NO_LABELS
    return (known.person, known.tariff, labels, *known[3:])


def _parted(
    rows: list[tuple[Any, ...]], at: int, frozen: tuple[Frozen, ...]
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Part rows by whether the minute that begins in column `at` reaches into a frozen month: first those that do not."""
    if not frozen:
        return rows, []
    parts: tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]] = ([], [])
    for row in rows:
        parts[any(month.start_ms - MINUTE_MS < row[at] < month.end_ms for month in frozen)].append(row)
    return parts


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


async def _write_samples(
    connection: AsyncConnection, full: Iterable[UsageEvent], frozen: tuple[Frozen, ...]
) -> None:
    fullest: dict[tuple[str, int], tuple[int, ...]] = {}
    for event in full:
        key = (event.tenant, event.at_ms)
        fullest[key] = tuple(map(max, event.numbers, fullest.get(key, event.numbers)))
    rows = [(*key, *numbers) for key, numbers in sorted(fullest.items())]
    names = ("tenant", "minute_ms", *_SAMPLE_COLUMNS)
    open_rows, frozen_rows = _parted(rows, 1, frozen)
    await insert_many(connection, samples, names, open_rows, _SAMPLE_CONFLICT)
    await insert_many(connection, samples, names, frozen_rows, "ON CONFLICT DO NOTHING")
