"""Whether a history of real processes kept what is promised; knows the contract, and nothing of how it is kept.

Over the cap: a sweep over all that clients believed.  Live seats refused: who asked in time for a seat that it believes
in, and was told that it is gone, without a cause.  Events lost and doubled: the ledger, as SQL has it, against what
clients were told.  `of_ledger` may be asked again until the ledger had time to be written.
"""

import itertools
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.faults.history import Asked, History
from tests.sim.checker import CapInForce, Violation, over_the_cap

FOR_EVER = 1 << 62
SLACK_MS = 2
"""Rounding, of clocks that are one: store, database and clients run on the same host."""
LATER = {0, 429, 503}


class Row(NamedTuple):
    """A lease as the ledger has it."""

    lease: str
    user: str
    started_ms: int | None
    ended_ms: int | None
    reason: str | None


def ledger_of(database: Path, tenant: str) -> list[Row]:
    """Read a tenant's ledger with SQL."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as connection:
        query = (
            "SELECT l.lease, p.name, l.started_ms, l.ended_ms, l.end_reason FROM ledger_leases l "
            "LEFT JOIN people p ON p.tenant = l.tenant AND p.person = l.person WHERE l.tenant = ?"
        )
        return [Row(*row) for row in connection.execute(query, (tenant,))]


def of_clients(history: History, delta_ms: int) -> list[Violation]:
    """Judge what clients heard and believed."""
    found = over_the_cap(history.stretches, [CapInForce(history.cap, 0, FOR_EVER)])
    for one in history.asked:
        if one.outcome == "fail" and one.status:
            found += _refusal(history, one, delta_ms)
    return found


def _refusal(history: History, one: Asked, delta_ms: int) -> list[Violation]:
    live = one.verb != "release" and one.returned_us < one.believed_us
    said = f"{one.verb} by {one.user}/{one.client}: {one.status} {one.code} {one.reason} for {one.lease}"
    if one.status in LATER:
        # A receipt that still holds for delta is in no doubt: who has it may renew while the tenant learns.
        doubted = one.verb == "renew" and one.code == "learning" and one.wall_ms + delta_ms <= one.expires_ms
        return [Violation("I4", one.returned_us, said)] if live and doubted else []
    if live and not _caused(history, one):
        return [Violation("I4", one.returned_us, said)]
    if one.status not in {409, 410}:
        return [Violation("contract", one.returned_us, said)]
    return []


def _caused(history: History, one: Asked) -> bool:
    """Tell whether its own user has moved on, on another client or by a request that was left behind."""
    if one.reason != "taken_over" and one.code != "seat_elsewhere":
        return False
    return any(
        other.user == one.user and other.verb == "acquire" and other.invoked_us < one.returned_us
        and (other.client != one.client or (other.outcome == "unknown" and other.request != one.request))
        for other in history.asked
    )  # fmt: skip


def of_ledger(history: History, rows: Sequence[Row]) -> list[Violation]:
    """Hold the ledger against what was acknowledged."""
    return [*_lost(history, rows), *_doubled(history, rows)]


def _lost(history: History, rows: Sequence[Row]) -> list[Violation]:
    by_lease = {row.lease: row for row in rows}
    found = []
    started: dict[str, Asked] = {}
    for one in history.asked:
        if one.verb == "acquire" and one.outcome == "ok":
            started.setdefault(one.lease, one)
    for lease, one in started.items():
        row = by_lease.get(lease)
        if row is None or row.started_ms is None or row.started_ms > one.started_ms:
            found.append(
                Violation("events lost", one.returned_us, f"start of {lease} at {one.started_ms}: {row}")
            )
    for one in history.asked:
        # What was lost with the store and had run out before its release came, no store knows any more.
        alive = not history.lossy or one.returned_us < one.believed_us
        if one.verb == "release" and one.outcome == "ok" and one.lease in started and alive:
            row = by_lease.get(one.lease)
            if row is None or row.ended_ms is None:
                found.append(Violation("events lost", one.returned_us, f"end of {one.lease}: {row}"))
    return found


def _doubled(history: History, rows: Sequence[Row]) -> list[Violation]:
    """Find leases that nobody asked for, one request with two, ends before starts, a user twice at a time."""
    heard = {one.lease for one in history.asked if one.verb == "acquire" and one.outcome == "ok"}
    unheard = Counter(
        one.user for one in history.asked if one.verb == "acquire" and one.outcome in {"unknown", "open"}
    )
    surplus = Counter(row.user for row in rows if row.lease not in heard)
    found = [
        Violation("events doubled", 0, f"{count} leases of {user} that it never asked for")
        for user, count in (surplus - unheard).items()
    ]
    found += [
        Violation("I7", 0, f"ends before it starts: {row}")
        for row in rows
        if row.ended_ms is not None and row.started_ms is not None and row.ended_ms < row.started_ms
    ]
    return [*found, *_overlaps(rows), *([] if history.lossy else _wrong_ends(history, rows))]


def _overlaps(rows: Sequence[Row]) -> list[Violation]:
    found = []
    of_user: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.started_ms is not None and row.ended_ms is not None:  # an open one may be lost with the store
            of_user[row.user].append(row)
    for mine in of_user.values():
        mine.sort(key=lambda row: (row.started_ms or 0, row.ended_ms or 0))
        for first, second in itertools.pairwise(mine):
            if (first.ended_ms or 0) > (second.started_ms or 0):
                found.append(Violation("events doubled", 0, f"one user, twice at a time: {first}, {second}"))
    return found


def _wrong_ends(history: History, rows: Sequence[Row]) -> list[Violation]:
    """Nothing was lost: then no lease ends in the ledger before the latest instant that its client was promised."""
    promised: dict[str, int] = {}
    released: set[str] = set()
    for one in history.asked:
        if one.verb == "release":
            released.add(one.lease)
        elif one.outcome == "ok":
            promised[one.lease] = max(promised.get(one.lease, 0), one.expires_ms)
    return [
        Violation("I7", 0, f"promised until {promised[row.lease]}: {row}")
        for row in rows
        if row.reason == "expired"
        and row.lease not in released
        and (row.ended_ms or 0) < promised.get(row.lease, 0) - SLACK_MS
    ]
