"""Where a partition's events are recorded up to, and which numbers were never seen.

Each epoch of a partition numbers its events from 1 without a gap, so a number that is passed over is an event
that was lost.  What comes later than the cursor is new; what comes at or before it was recorded already, or
fills a gap.  No SQL and no clock may live here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from seatd.model import UsageEvent

STREAM_START = "0-0"


class Cursor(NamedTuple):
    """The last event recorded: its id in the stream (informative), its epoch and its number there."""

    stream_id: str = STREAM_START
    epoch: int = 0
    seq: int = 0


class Gap(NamedTuple):
    """Numbers of an epoch that were never seen: `from_seq` to `to_seq`, both included."""

    epoch: int
    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What some events do to a cursor: where it then stands, new gaps, and which events were new or late."""

    cursor: Cursor
    gaps: tuple[Gap, ...]
    new: tuple[UsageEvent, ...]
    late: tuple[UsageEvent, ...]


def advance(cursor: Cursor, events: Iterable[UsageEvent]) -> Progress:
    """Move a cursor over events in the order of their stream."""
    epoch, seq, stream_id = cursor.epoch, cursor.seq, cursor.stream_id
    gaps: list[Gap] = []
    new: list[UsageEvent] = []
    late: list[UsageEvent] = []
    for event in events:
        stream_id = event.stream_id
        if (event.epoch, event.seq) <= (epoch, seq):
            late.append(event)
            continue
        expected = seq + 1 if event.epoch == epoch else 1
        if event.seq > expected:
            gaps.append(Gap(event.epoch, expected, event.seq - 1))
        epoch, seq = event.epoch, event.seq
        new.append(event)
    # What came late within this very batch may fill a gap of this batch.
    return Progress(Cursor(stream_id, epoch, seq), tuple(filled(gaps, late)), tuple(new), tuple(late))


def filled(gaps: Iterable[Gap], seen: Iterable[UsageEvent]) -> list[Gap]:
    """Return what is left of gaps after these events were seen."""
    numbers = {(event.epoch, event.seq) for event in seen}
    return [part for gap in gaps for part in _without(gap, numbers)]


def _without(gap: Gap, numbers: set[tuple[int, int]]) -> list[Gap]:
    inside = sorted(seq for epoch, seq in numbers if epoch == gap.epoch and gap.from_seq <= seq <= gap.to_seq)
    parts: list[Gap] = []
    start = gap.from_seq
    for seq in inside:
        if start < seq:
            parts.append(Gap(gap.epoch, start, seq - 1))
        start = seq + 1
    if start <= gap.to_seq:
        parts.append(Gap(gap.epoch, start, gap.to_seq))
    return parts
