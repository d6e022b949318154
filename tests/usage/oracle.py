"""What the ledger should hold, told from all events that ever stood in the stream, by the words of the design."""

from collections.abc import Iterable
from typing import Any

from seatd.model import UsageEvent


def leases(events: Iterable[UsageEvent]) -> dict[tuple[str, str], tuple[Any, ...]]:
    """`(tenant, lease)` -> user, tariff, start, end, reason."""
    seen = list(events)
    return {key: _lease(key, seen) for key in {(e.tenant, e.lease) for e in seen if e.lease}}


def _lease(key: tuple[str, str], seen: list[UsageEvent]) -> tuple[Any, ...]:
    mine = [e for e in seen if (e.tenant, e.lease) == key]
    starts = [e for e in mine if e.kind == "started"]
    ends = [e for e in mine if e.kind == "ended"]
    adoptions = [e for e in mine if e.kind == "adopted"]
    start = min((e.at_ms for e in starts), default=None)
    tariff = next((e.tariff for e in [*starts, *adoptions]), "")
    return (mine[0].user, tariff, start, *_end(ends, adoptions))


def _end(ends: list[UsageEvent], adoptions: list[UsageEvent]) -> tuple[int | None, str | None]:
    decided = [e for e in ends if e.reason != "expired"]
    if decided:  # final, the earliest
        first = min(decided, key=lambda e: (e.at_ms, e.epoch))
        return first.at_ms, first.reason
    highest = max((e.epoch for e in ends), default=0)
    if not ends or any(e.epoch > highest for e in adoptions):
        return None, None
    (last,) = {(e.at_ms, e.reason) for e in ends if e.epoch == highest}
    return last


def denials(events: Iterable[UsageEvent]) -> dict[tuple[str, str, str, int], int]:
    """`(tenant, user, reason, minute)` -> the first instant."""
    found: dict[tuple[str, str, str, int], int] = {}
    for e in events:
        if e.kind == "denied":
            key = (e.tenant, e.user, e.reason, e.at_ms // 60_000 * 60_000)
            found[key] = min(found.get(key, e.at_ms), e.at_ms)
    return found


def samples(events: Iterable[UsageEvent]) -> dict[tuple[str, int], tuple[int, ...]]:
    """`(tenant, minute)` -> the fullest that was told."""
    found: dict[tuple[str, int], tuple[int, ...]] = {}
    for e in events:
        if e.kind == "sample":
            before = found.get((e.tenant, e.at_ms), e.numbers)
            found[e.tenant, e.at_ms] = tuple(max(pair) for pair in zip(before, e.numbers, strict=True))
    return found


def missing(events: Iterable[UsageEvent]) -> set[tuple[int, int]]:
    """`(epoch, seq)` of what was passed over while its epoch was the newest, and never came."""
    newest = 0
    reached: dict[int, int] = {}
    seen: set[tuple[int, int]] = set()
    for e in events:
        newest = max(newest, e.epoch)
        seen.add((e.epoch, e.seq))
        if e.epoch == newest:
            reached[e.epoch] = max(reached.get(e.epoch, 0), e.seq)
    return {(epoch, seq) for epoch, top in reached.items() for seq in range(1, top + 1)} - seen
