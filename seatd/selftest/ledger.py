"""Whether the ledger tells what the clients saw: every lease one start and one end, at the right instants.  Pure.

Compares the server's own instants with one another: those that it told clients and those that it wrote down.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seatd.selftest.findings import Finding
from seatd.selftest.history import Asked, History, Outcome, Stretch, Verb
from seatd.selftest.sweep import levels, most

Row = Mapping[str, Any]


@dataclass(slots=True)
class Known:
    """A lease as its clients knew it; `acts` are what was done to end it."""

    user: str
    started_ms: int
    expires_ms: int = 0
    acts: set[str] = field(default_factory=set)
    certain: bool = True


def known(history: History) -> dict[str, Known]:
    """Gather what clients know of each lease; where an answer is missing, not all of it is certain."""
    leases: dict[str, Known] = {}
    for asked in history.of(Verb.ACQUIRE):
        if asked.outcome is Outcome.OK:
            lease = leases.setdefault(asked.lease, Known(asked.user, asked.started_ms))
            lease.started_ms = min(lease.started_ms, asked.started_ms)
    for asked in history.asked:
        for lease in _touched(leases, asked):
            _learn(lease, asked)
    return leases


def _touched(leases: dict[str, Known], asked: Asked) -> Iterator[Known]:
    if asked.verb is Verb.ACQUIRE and (asked.takeover or asked.outcome is Outcome.UNKNOWN):
        yield from (lease for lease in leases.values() if lease.user == asked.user)
    elif asked.lease in leases:
        yield leases[asked.lease]


_ACTS = {Verb.RELEASE: "released", Verb.REVOKE: "revoked"}


def _learn(lease: Known, asked: Asked) -> None:
    if asked.outcome is Outcome.UNKNOWN:
        lease.certain = False
    elif asked.verb is Verb.ACQUIRE and asked.takeover:
        lease.acts.add("taken_over")
    elif asked.outcome is Outcome.OK and asked.verb in _ACTS:
        lease.acts.add(_ACTS[asked.verb])
    if asked.extends:
        lease.expires_ms = max(lease.expires_ms, asked.expires_ms)


def settled(history: History, rows: Sequence[Row]) -> bool:
    """Tell whether each lease that clients know of has its end in the ledger."""
    ended = {row["lease"] for row in rows if row["ended_ms"] is not None}
    return known(history).keys() <= ended


def agrees(history: History, rows: Sequence[Row]) -> Finding:
    """Compare the ledger's rows with what clients know."""
    leases = known(history)
    broken = [*_twice(rows), *_strangers(history, leases, rows), *_too_many(history, rows)]
    by_lease = {row["lease"]: row for row in rows}
    for name, lease in leases.items():
        broken += [f"lease {name} of {lease.user} {what}" for what in _differs(lease, by_lease.get(name))]
    seen = f"{len(leases)} leases, one start and one end each" if not broken else f"{len(broken)} differences"
    return Finding("ledger", "the ledger tells what happened", len(leases), seen, tuple(broken))


def _twice(rows: Sequence[Row]) -> Iterator[str]:
    for name, count in Counter(row["lease"] for row in rows).items():
        if count > 1:
            yield f"lease {name} is there {count} times"


def _strangers(history: History, leases: Mapping[str, Known], rows: Sequence[Row]) -> Iterator[str]:
    """Find leases that nobody heard of, more than there are acquires without an answer."""
    strangers = [row["lease"] for row in rows if row["lease"] not in leases]
    unanswered = sum(asked.outcome is Outcome.UNKNOWN for asked in history.of(Verb.ACQUIRE))
    if len(strangers) > unanswered:
        yield f"{len(strangers)} leases that nobody was granted, {strangers[0]} the first of them"


def _too_many(history: History, rows: Sequence[Row]) -> Iterator[str]:
    spans = [
        Stretch(row["lease"], row["started_ms"], row["ended_ms"])
        for row in rows
        if row["started_ms"] is not None and row["ended_ms"] is not None
    ]
    highest = most(levels(spans)).height
    if highest > history.seats:
        yield f"{highest} leases at once on {history.seats} seats"


def _differs(lease: Known, row: Row | None) -> Iterator[str]:
    if row is None:
        yield "is missing"
    elif row["started_ms"] is None or row["ended_ms"] is None:
        yield f"has no {'start' if row['started_ms'] is None else 'end'}"
    else:
        yield from _differs_within(lease, row)


def _differs_within(lease: Known, row: Row) -> Iterator[str]:
    if row["user"] != lease.user:
        yield f"is {row['user']}'s"
    if row["started_ms"] != lease.started_ms:
        yield f"starts {row['started_ms'] - lease.started_ms} ms late"
    if row["ended_ms"] < row["started_ms"]:
        yield "ends before it starts"
    if row["end_reason"] not in lease.acts | {"expired"}:
        yield f"ended by {row['end_reason']}, which nobody did"
    if not lease.certain:
        return
    if row["ended_ms"] > lease.expires_ms:
        yield f"ends {row['ended_ms'] - lease.expires_ms} ms after it ran out"
    if not lease.acts and row["ended_ms"] != lease.expires_ms:
        yield f"ends {lease.expires_ms - row['ended_ms']} ms before it ran out"
