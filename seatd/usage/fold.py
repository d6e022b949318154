"""What the ledger knows of one lease, and how two pieces of that knowledge become one.

Epochs repeat themselves: what was recorded once may come again, late, or told otherwise by another epoch.  So
knowledge is only ever *joined*: the join does not care about order, nor about how often a piece comes.  The
earliest start holds.  An end that somebody decided (a release, a revocation, anything but running out) is
final, the earliest of them.  Otherwise the highest epoch says whether the lease is over: it may have
run out there, or been adopted again.  No SQL and no clock may live here.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from seatd.database.freezing import Frozen
from seatd.model import UsageEvent
from seatd.usage.intervals import FOREVER_MS

EXPIRED: Final = "expired"
"""The one end that nobody decided, and that an adoption takes back."""


class Known(NamedTuple):
    """What is known of a lease.  None: not (yet) known; `end_epoch` without `ended_ms`: adopted there, and open.

    `person` and `tariff` are the start's; a lease whose start was never seen has an empty tariff.
    """

    person: str
    tariff: str = ""
    labels: Mapping[str, str] = {}
    started_ms: int | None = None
    start_epoch: int | None = None
    ended_ms: int | None = None
    end_epoch: int | None = None
    end_reason: str | None = None


_OPEN: Final = (None, None, None)


def known_from(event: UsageEvent, person: str) -> Known:
    """Tell what one event of a lease (`started`, `ended`, `adopted`) says of it."""
    if event.kind == "started":
        return Known(person, event.tariff, event.labels, event.at_ms, event.epoch)
    if event.kind == "ended":
        return Known(person, ended_ms=event.at_ms, end_epoch=event.epoch, end_reason=event.reason)
    return Known(person, event.tariff, event.labels, end_epoch=event.epoch)


def join(one: Known, other: Known) -> Known:
    """Join two pieces of knowledge of the same lease."""
    if (
        one.started_ms is not None
        and one[5:] == _OPEN
        and other.started_ms is None
        and other.ended_ms is not None
    ):
        return Known(*one[:5], *other[5:])  # what nearly every end comes to, told quickly
    began, ended = _begun(one, other), _over(one, other)
    return began._replace(ended_ms=ended.ended_ms, end_epoch=ended.end_epoch, end_reason=ended.end_reason)


def _begun(one: Known, other: Known) -> Known:
    if one.started_ms is None or other.started_ms is None:
        # Without a start, an adoption still tells more (the tariff) than an end does.
        return max(one, other, key=lambda known: (known.started_ms is not None, known.tariff, known.person))
    return min(
        one, other, key=lambda known: (known.started_ms, known.start_epoch, known.tariff, known.person)
    )


def _over(one: Known, other: Known) -> Known:
    if _final(one) and _final(other):
        return min(one, other, key=lambda known: (known.ended_ms, known.end_epoch, known.end_reason))
    if _final(one) or _final(other):
        return one if _final(one) else other
    # Within one epoch nothing that ran out is adopted again: there the end is the later word.
    return max(
        one, other, key=lambda known: (known.end_epoch or 0, known.ended_ms is not None, known.ended_ms or 0)
    )


def _final(known: Known) -> bool:
    return known.end_reason not in {None, EXPIRED}


def changed_months(before: Known | None, now: Known, frozen: Iterable[Frozen]) -> list[str]:
    """Name the frozen months of which another version of a lease would tell something else.

    A lease that goes on beyond a month's end may end, or go on again, beyond it: nothing changes within.
    """
    return [
        month.period
        for month in frozen
        if (_lies(now, month) or (before is not None and _lies(before, month)))
        and not (before is not None and _same_within(before, now, month))
    ]


def _lies(known: Known, month: Frozen) -> bool:
    begin, end = known.started_ms, FOREVER_MS if known.ended_ms is None else known.ended_ms
    if begin is None:
        begin = known.ended_ms or 0
    return begin < month.end_ms and end > month.start_ms


def _same_within(before: Known, now: Known, month: Frozen) -> bool:
    ends = (before.ended_ms, now.ended_ms)
    same = (before.person, before.tariff, before.started_ms) == (now.person, now.tariff, now.started_ms)
    return same and all(end is None or end >= month.end_ms for end in ends)
