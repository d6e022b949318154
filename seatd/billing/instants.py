"""Instants as histories write them: `YYYY-MM-DDTHH:MM:SS[.f{1,3}](Z|+HH:MM|-HH:MM)`, to epoch milliseconds.

A month's lines name the same minutes and the same fractions over and over, so the parts are looked up.  No other form
is taken, however near it comes to RFC 3339.
"""

import re
from datetime import date
from functools import lru_cache
from typing import Final

_MINUTE: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([01][0-9]|2[0-3]):([0-5][0-9]):\Z")
_REST: Final = re.compile(r"(?:\.([0-9]{1,3}))?(?:Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))\Z")
_SECONDS_MS: Final = {f"{second:02}": second * 1000 for second in range(60)}
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_FORM: Final = "must be YYYY-MM-DDTHH:MM:SS[.f{1,3}] with Z, +HH:MM or -HH:MM"


def parse_instant(text: object) -> int:
    """Read an instant as epoch milliseconds; raises `ValueError` with the reason."""
    if not isinstance(text, str) or (second_ms := _SECONDS_MS.get(text[17:19])) is None:
        raise ValueError(_FORM)
    return _minute_ms(text[:17]) + second_ms + _rest_ms(text[19:])


@lru_cache(maxsize=65_536)
def _minute_ms(text: str) -> int:
    match = _MINUTE.match(text)
    if match is None:
        raise ValueError(_FORM)
    day, hour, minute = match.groups()
    try:
        days = date.fromisoformat(day).toordinal() - _EPOCH_DAY
    except ValueError:
        raise ValueError(f"there is no day {day}") from None
    return ((days * 24 + int(hour)) * 60 + int(minute)) * 60_000


@lru_cache(maxsize=4_096)
def _rest_ms(text: str) -> int:
    """Read fraction and offset, as what they add to the local second."""
    match = _REST.match(text)
    if match is None:
        raise ValueError(_FORM)
    fraction, sign, hours, minutes = match.groups()
    ms = int(fraction.ljust(3, "0")) if fraction else 0
    if sign:
        offset_ms = (int(hours) * 60 + int(minutes)) * 60_000
        ms += -offset_ms if sign == "+" else offset_ms
    return ms
