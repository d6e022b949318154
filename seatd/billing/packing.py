"""A lease in one integer, while lines of it may still come: a history may hold a million of them in memory.

From the low end: the user's number, what was said of the tariff, start and end, each 0 where it is not known yet.  So what two lines
say of one lease is joined by `|`.  What contradicts what is decided in `history`, by what is told here.
"""

from typing import Final

from seatd.model import Kind
from seatd.usage.intervals import FOREVER_MS

_USER_BITS: Final = 32
_KINDS: Final = ("", *Kind)
_KIND_BITS: Final = 2
_INSTANT_BITS: Final = 50
_BIAS: Final = 1 << 47
"""Added to instants, which histories may name from the year 1 to 9999: then none is 0, nor below."""
_START: Final = _USER_BITS + _KIND_BITS
_END: Final = _START + _INSTANT_BITS
_USER_MASK: Final = (1 << _USER_BITS) - 1
_KIND_MASK: Final = (1 << _KIND_BITS) - 1
_INSTANT_MASK: Final = (1 << _INSTANT_BITS) - 1
_CODES: Final = {kind: code << _USER_BITS for code, kind in enumerate(_KINDS)}
_SERVICE: Final = _KINDS.index(Kind.SERVICE)


def packed_start(start_ms: int, user: int, kind: str) -> int:
    """Pack what the line of a start says: `user` is a number below 2**32, `kind` a `Kind` or nothing."""
    return (start_ms + _BIAS) << _START | _CODES[kind] | user


def packed_end(end_ms: int) -> int:
    """Pack what the line of an end says."""
    return (end_ms + _BIAS) << _END


def has_start(packed: int) -> bool:
    """Tell whether a start was said."""
    return bool(packed >> _START & _INSTANT_MASK)


def start_of(packed: int) -> int:
    """Read the start, in milliseconds; one must have been said."""
    return (packed >> _START & _INSTANT_MASK) - _BIAS


def end_of(packed: int) -> int | None:
    """Read the end, in milliseconds; None where none was said yet."""
    end = packed >> _END
    return end - _BIAS if end else None


def same_start(packed: int, again: int) -> bool:
    """Tell whether two starts say the same; one that leaves the tariff out contradicts neither tariff."""
    kind, other = packed >> _USER_BITS & _KIND_MASK, again >> _USER_BITS & _KIND_MASK
    if packed & _USER_MASK != again & _USER_MASK or start_of(packed) != start_of(again):
        return False
    if (kind == _SERVICE) != (other == _SERVICE):
        return False
    return kind == other or not kind or not other


def unpacked(packed: int) -> tuple[int, int, int, bool]:
    """Read start, end (`FOREVER_MS` where none was said), the user's number, and whether it is a service user."""
    end = packed >> _END
    return (
        (packed >> _START & _INSTANT_MASK) - _BIAS,
        end - _BIAS if end else FOREVER_MS,
        packed & _USER_MASK,
        packed >> _USER_BITS & _KIND_MASK == _SERVICE,
    )
