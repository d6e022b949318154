"""Interval and step-function arithmetic, in whole milliseconds.

Intervals are half-open, `[start, end)`; one of length zero does not exist.  A step function is a
rising tuple of `(at_ms, value)`: the value from that instant on, and 0 before the first.  Because a
step function has one value an instant, a lease that ends where another starts is never counted
beside it.  This module knows neither leases nor money: what an interval means is its caller's.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Final

Interval = tuple[int, int]
Intervals = tuple[Interval, ...]
"""Disjoint, rising, none empty, none touching: what `union` makes."""
Steps = tuple[tuple[int, int], ...]

FOREVER_MS: Final = 1 << 62
"""The end of what has no end yet."""


def union(intervals: Iterable[Interval]) -> Intervals:
    """Join intervals into the fewest that cover the same instants."""
    joined: list[Interval] = []
    for start, end in sorted(intervals):
        if start >= end:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def intersect(left: Intervals, right: Intervals) -> Intervals:
    """Return the instants that both cover."""
    common: list[Interval] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < end:
            common.append((start, end))
        if left[i][1] <= right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(common)


def covers(intervals: Intervals, at_ms: int) -> bool:
    """Tell whether an instant lies in one of the intervals."""
    place = bisect_right(intervals, (at_ms, FOREVER_MS + 1)) - 1
    return place >= 0 and at_ms < intervals[place][1]


def hull(intervals: Intervals) -> Interval | None:
    """Return the smallest interval that covers all of them; None where there are none."""
    return (intervals[0][0], intervals[-1][1]) if intervals else None


def length(intervals: Intervals) -> int:
    """Return how many milliseconds the intervals cover."""
    return sum(end - start for start, end in intervals)


def steps(settings: Mapping[int, int]) -> Steps:
    """Make the step function that takes each value at its instant."""
    return tuple(sorted(settings.items()))


def count(intervals: Iterable[Interval]) -> Steps:
    """Make the step function of how many of the intervals are open; they may overlap."""
    changes: dict[int, int] = {}
    for start, end in intervals:
        if start < end:
            changes[start] = changes.get(start, 0) + 1
            changes[end] = changes.get(end, 0) - 1
    total = 0
    counted: list[tuple[int, int]] = []
    for at_ms in sorted(changes):
        # A lease that takes over at the instant another ends changes nothing.
        if changes[at_ms]:
            total += changes[at_ms]
            counted.append((at_ms, total))
    return tuple(counted)


def pieces(values: Steps, within: Intervals) -> Iterator[tuple[int, int, int]]:
    """Yield `(start_ms, end_ms, value)`, rising, for the instants of `within`."""
    for start, end in within:
        first = bisect_right(values, start, key=lambda step: step[0])
        cut = [(start, values[first - 1][1] if first else 0)]
        for index in range(first, len(values)):
            if values[index][0] >= end:
                break
            cut.append(values[index])
        cut.append((end, 0))
        for (piece_start, value), (piece_end, _) in pairwise(cut):
            yield piece_start, piece_end, value


def where_at_least(values: Steps, floor: Steps, within: Intervals) -> Intervals:
    """Return the instants of `within` at which `values` is `floor` or more."""
    return union(
        (start, end)
        for floor_start, floor_end, least in pieces(floor, within)
        for start, end, value in pieces(values, ((floor_start, floor_end),))
        if value >= least
    )


def integral(values: Steps, within: Intervals) -> int:
    """Return the integral over `within`, in value times milliseconds."""
    return sum(value * (end - start) for start, end, value in pieces(values, within))


def maximum(values: Steps, within: Intervals) -> int:
    """Return the largest value over `within`; 0 where `within` has no instant."""
    return max((value for _, _, value in pieces(values, within)), default=0)


def first_at(values: Steps, value: int, within: Intervals) -> int | None:
    """Return the first instant of `within` that has just this value, None without one."""
    return next((start for start, _, have in pieces(values, within) if have == value), None)


def quantile(values: Steps, within: Intervals, *, percent: int) -> int:
    """Return the least k such that the value is at most k for `percent` of `within` or more.

    0 where `within` has no instant.
    """
    spent: dict[int, int] = {}
    for start, end, value in pieces(values, within):
        spent[value] = spent.get(value, 0) + end - start
    needed, so_far = percent * length(within), 0
    for value in sorted(spent):
        so_far += spent[value]
        if 100 * so_far >= needed:
            return value
    return 0
