"""Months as a price list's time zone sees them: where they begin, their days, how instants print.

A month runs from the first instant whose local date is the first of it to the same of the next.  Zones
may skip midnight, repeat it or drop a whole day, so nothing here assumes that a day has 24 hours or
begins at 00:00: a zone is cut into spans of one offset each, and everything is read off them.  No
clock is read here, and no money is made.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_HOUR_S: Final = 3_600
_DAY_MS: Final = 86_400_000
_PERIOD: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])\Z")
_YEARS: Final = range(1970, 9999)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# No zone was ever further from UTC than this.
_FARTHEST_S: Final = 26 * _HOUR_S

Span = tuple[int, int, int]
"""`(start_ms, end_ms, offset_ms)`: from start to end, local time is UTC plus offset."""


def first_day(period: str) -> date:
    """Return the first day of the month that `YYYY-MM` names; ValueError where it names none."""
    match = _PERIOD.match(period)
    if match is None or int(match[1]) not in _YEARS:
        raise ValueError(f"{period!r} is not a month: YYYY-MM")
    return date(int(match[1]), int(match[2]), 1)


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """Return the time zone of an IANA name; ValueError where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone") from error


@dataclass(frozen=True, slots=True)
class Month:
    """One month in one time zone: `[start_ms, end_ms)`, compared in UTC.

    `spans` cut it wherever the zone's offset changes.
    """

    period: str
    timezone: str
    start_ms: int
    end_ms: int
    spans: tuple[Span, ...]

    @classmethod
    def parse(cls, period: str, timezone: str) -> "Month":
        """Make the month that `YYYY-MM` names in an IANA time zone; ValueError for bad names."""
        return _month(period, timezone)

    @property
    def length_ms(self) -> int:
        """Return how long the month is; DST makes it an hour shorter or longer."""
        return self.end_ms - self.start_ms

    def days(self, intervals: tuple[tuple[int, int], ...]) -> int:
        """Count the local calendar days that have an instant of the intervals, within the month."""
        found: set[int] = set()
        for span_start, span_end, offset in self.spans:
            for start, end in intervals:
                first, last = max(start, span_start), min(end, span_end)
                if first < last:
                    found.update(range((first + offset) // _DAY_MS, (last - 1 + offset) // _DAY_MS + 1))
        return len(found)

    def rfc3339(self, at_ms: int) -> str:
        """Write an instant in the month's zone, with its offset, cut to seconds."""
        return instant_text(at_ms, self.timezone)


def instant_text(at_ms: int, timezone_name: str) -> str:
    """Write an instant as RFC 3339 with the zone's offset, cut to seconds."""
    there = (_EPOCH + timedelta(seconds=at_ms // 1000)).astimezone(zone(timezone_name))
    offset = there.utcoffset() or timedelta(0)
    # RFC 3339 has no seconds in an offset; such zones ended in 1972.
    whole = timezone(timedelta(minutes=offset // timedelta(minutes=1)))
    return there.astimezone(whole).isoformat(timespec="seconds")


@lru_cache(maxsize=256)
def _month(period: str, timezone_name: str) -> Month:
    first = first_day(period)
    after = (first + timedelta(days=32)).replace(day=1)
    start_ms, end_ms = _first_instant(first, timezone_name), _first_instant(after, timezone_name)
    return Month(period, timezone_name, start_ms, end_ms, tuple(_spans(start_ms, end_ms, timezone_name)))


def _first_instant(day: date, timezone_name: str) -> int:
    """Return the first instant whose local date is `day`, or later where the zone dropped that day."""
    local_ms = (day - _EPOCH.date()).days * _DAY_MS
    near = _spans(local_ms - _FARTHEST_S * 1000, local_ms + _FARTHEST_S * 1000, timezone_name)
    return next(max(start, local_ms - offset) for start, end, offset in near if local_ms - offset < end)


def _spans(start_ms: int, end_ms: int, timezone_name: str) -> Iterator[Span]:
    """Cut `[start_ms, end_ms)`, on whole seconds, where the zone's offset changes."""
    there, end_s = zone(timezone_name), end_ms // 1000
    begun_s = at_s = start_ms // 1000
    offset = _offset_s(at_s, there)
    while at_s < end_s:
        next_s = min(at_s + _HOUR_S, end_s)
        if _offset_s(next_s, there) != offset:
            change_s = _change_s(at_s, next_s, there)
            yield begun_s * 1000, change_s * 1000, offset * 1000
            begun_s, offset = change_s, _offset_s(change_s, there)
        at_s = next_s
    if begun_s < end_s:
        yield begun_s * 1000, end_ms, offset * 1000


def _change_s(low_s: int, high_s: int, there: ZoneInfo) -> int:
    """Find the second at which the offset changes, after `low_s` and not after `high_s`."""
    before = _offset_s(low_s, there)
    while high_s - low_s > 1:
        middle = (low_s + high_s) // 2
        if _offset_s(middle, there) == before:
            low_s = middle
        else:
            high_s = middle
    return high_s


def _offset_s(at_s: int, there: ZoneInfo) -> int:
    offset = (_EPOCH + timedelta(seconds=at_s)).astimezone(there).utcoffset()
    return int((offset or timedelta(0)).total_seconds())
