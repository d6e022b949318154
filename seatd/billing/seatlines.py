"""Read the lines of which a history has millions, seats that begin and end, the quick way.

Decides nothing about what is right: whatever is not plainly so is left to `historyfile`, which says what is wrong.  So a line is
read here only where a strict, typed decoder takes it whole, and where its quotes show that no key stands in it twice.
"""

from functools import lru_cache
from typing import Final

import msgspec

from seatd.billing.events import SeatEnded, SeatStarted
from seatd.billing.instants import parse_instant
from seatd.model import Kind, is_id

NAME_MAX: Final = 128
"""Characters of a name that others chose: the id of a lease or a delivery, a reason."""
_KINDS: Final = frozenset({"", *Kind})
_known_id: Final = lru_cache(maxsize=65_536)(is_id)


class _Started(msgspec.Struct, tag="seat_started", tag_field="event", forbid_unknown_fields=True, gc=False):
    at: str
    tenant: str
    lease: str
    user: str
    tariff: str | None = None


class _Ended(msgspec.Struct, tag="seat_ended", tag_field="event", forbid_unknown_fields=True, gc=False):
    at: str
    tenant: str
    lease: str


_decode: Final = msgspec.json.Decoder(_Started | _Ended).decode
_QUOTES_A_FIELD: Final = 4


def quick_event(line: bytes) -> SeatStarted | SeatEnded | None:
    """Read a line that begins or ends a seat; None where it is anything else, or not plainly right."""
    if b"\\" in line:
        return None
    try:
        told = _decode(line)
        at_ms = parse_instant(told.at)
    except (ValueError, RecursionError):  # not JSON, another event, a wrong field
        return None
    if not (_known_id(told.tenant) and 0 < len(told.lease) <= NAME_MAX and told.lease.isprintable()):
        return None
    quotes = line.count(b'"')
    if type(told) is _Ended:
        return SeatEnded(at_ms, told.tenant, told.lease) if quotes == 4 * _QUOTES_A_FIELD else None
    fields = 5 if told.tariff is None else 6
    kind = told.tariff or ""
    if (
        quotes != fields * _QUOTES_A_FIELD
        or not _known_id(told.user)
        or kind not in _KINDS
        or told.tariff == ""
    ):
        return None
    return SeatStarted(at_ms, told.tenant, told.lease, told.user, kind)
