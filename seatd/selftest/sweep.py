"""How many at once: a sweep over beginnings and ends, O(n log n).  Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from seatd.selftest.history import Stretch


class Level(NamedTuple):
    """How many there are from `at` on."""

    at: int
    height: int


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Join the stretches of each one that touch or overlap: whoever is there twice counts once."""
    done: list[Stretch] = []
    for each in sorted(stretches):
        if each.since >= each.until:
            continue
        last = done[-1] if done else None
        if last and last.who == each.who and each.since <= last.until:
            done[-1] = last._replace(until=max(last.until, each.until))
        else:
            done.append(each)
    return done


def levels(stretches: Iterable[Stretch]) -> list[Level]:
    """Tell how many there are, from each instant at which that changes; at one instant ends come first."""
    changes = sorted(_changes(joined(stretches)))
    found, count = [], 0
    for at, steps in groupby(changes, key=itemgetter(0)):
        count += sum(step for _, step in steps)
        found.append(Level(at, count))
    return found


def _changes(stretches: Iterable[Stretch]) -> Iterator[tuple[int, int]]:
    for each in stretches:
        yield each.since, 1
        yield each.until, -1


def most(found: list[Level], since: int | None = None, until: int | None = None) -> Level:
    """Give the highest level that stands at some instant of `[since, until]`, the first where several are equal."""
    first = 0 if since is None else max(bisect_right(found, since, key=itemgetter(0)) - 1, 0)
    after = len(found) if until is None else bisect_right(found, until, key=itemgetter(0))
    window = found[first:after]
    if since is not None and window and first == 0 and window[0].at > since:
        window = [Level(since, 0), *window]
    return max(window, key=lambda level: (level.height, -level.at), default=Level(since or 0, 0))


def covers(stretches: list[Stretch], at: int) -> bool:
    """Tell whether one of these stretches, joined and of one alone, holds this instant."""
    place = bisect_left(stretches, at + 1, key=lambda each: each.since) - 1
    return place >= 0 and at < stretches[place].until
