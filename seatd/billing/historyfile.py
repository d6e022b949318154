"""Read a history file: JSON lines to events, strictly, every error with its file and line.

Nothing that looks nearly right is taken for right: no float or boolean passes for an integer, no
key twice, no field unknown (save `x_*`), no instant without offset.  What the events add up to, and
whether they contradict each other, is `history`'s.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, NoReturn

from seatd.billing.events import (
    Booked,
    Bound,
    Denied,
    Event,
    Metered,
    SeatEnded,
    SeatStarted,
    TariffSet,
)
from seatd.billing.history import HistoryError, Place
from seatd.billing.instants import parse_instant
from seatd.billing.seatlines import NAME_MAX, quick_event
from seatd.model import Kind, Tariff, is_id

_QUANTITY: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?\Z")
# What a 64-bit column holds: a number without end would be one that cannot be priced or printed.
_BOOKED_MAX: Final = (1 << 63) - 1

_Line = dict[str, Any]


def read_history(lines: Iterable[bytes], file: str) -> Iterator[tuple[Place, Event]]:
    """Yield the event of every line, with its place; `file` names the file in errors.

    Empty lines are passed over at the end of the file, nowhere else.  Raises `HistoryError`.
    """
    empty: Place | None = None
    for number, line in enumerate(lines, start=1):
        place = Place(file, number)
        if not line.strip():
            empty = empty or place
            continue
        if empty:
            raise HistoryError("the line is empty", empty)
        try:
            yield place, parse_line(line)
        except HistoryError as error:
            raise HistoryError(error.reason, place) from error


def parse_line(line: bytes) -> Event:
    """Read one JSON line; `HistoryError`, without a place, where it is not an event."""
    return quick_event(line) or _careful_event(line)


def _careful_event(line: bytes) -> Event:
    """Read any line, and say what is wrong with it."""
    fields = _fields(line)
    name = fields.get("event")
    event = _EVENTS.get(name) if isinstance(name, str) else None
    if event is None:
        raise HistoryError("event: must be one of " + ", ".join(_EVENTS))
    required, optional, make = event
    for key in fields:
        if key not in required and key not in optional and not key.startswith("x_"):
            raise HistoryError(f"{key!r}: unknown field of {name!r}")
    for key in required:
        if key not in fields:
            raise HistoryError(f"{key}: is missing")
    return make(_at(fields), _id(fields, "tenant"), fields)


def _at(fields: _Line) -> int:
    try:
        return parse_instant(fields["at"])
    except ValueError as error:
        raise HistoryError(f"at: {error}") from None


def _fields(line: bytes) -> _Line:
    try:
        fields = _JSON.decode(line.decode())
    except HistoryError:
        raise
    except (ValueError, RecursionError) as error:
        raise HistoryError(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise HistoryError("must be a JSON object")
    return fields


def _object(pairs: list[tuple[str, Any]]) -> _Line:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise HistoryError(f"{twice!r}: stands there twice")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise HistoryError(f"not JSON: {name}")


_JSON: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def _id(fields: _Line, key: str) -> str:
    value = fields[key]
    if not isinstance(value, str) or not is_id(value):
        raise HistoryError(f"{key}: must be 1 to 128 of A-Z a-z 0-9 . _ @ : + -")
    return value


def _name(fields: _Line, key: str) -> str:
    """Read a text that others chose: the id of a lease or a delivery, a reason."""
    value = fields[key]
    if not isinstance(value, str) or not 1 <= len(value) <= NAME_MAX or not value.isprintable():
        raise HistoryError(f"{key}: must be 1 to {NAME_MAX} printable characters")
    return value


def _tariff(at_ms: int, tenant: str, fields: _Line) -> Event:
    value, trial = fields["tariff"], fields.get("trial", False)
    if value is not None and (not isinstance(value, str) or value not in list(Tariff)):
        raise HistoryError("tariff: must be team, agent or null")
    if not isinstance(trial, bool):
        raise HistoryError("trial: must be true or false")
    return TariffSet(at_ms, tenant, None if value is None else Tariff(value), trial)


def _booking(at_ms: int, tenant: str, fields: _Line) -> Event:
    quantity = fields["quantity"]
    # A boolean is an int to Python, and none to JSON.
    if type(quantity) is not int or not 0 <= quantity <= _BOOKED_MAX:
        raise HistoryError(f"quantity: must be an integer from 0 to {_BOOKED_MAX}")
    return Booked(at_ms, tenant, _id(fields, "product"), quantity)


def _bound(at_ms: int, tenant: str, fields: _Line) -> Event:
    bound = fields["event"] == "bound"
    return Bound(at_ms, tenant, _id(fields, "product"), _id(fields, "user"), bound)


def _started(at_ms: int, tenant: str, fields: _Line) -> Event:
    tariff = fields.get("tariff", "")
    if "tariff" in fields and (not isinstance(tariff, str) or tariff not in list(Kind)):
        raise HistoryError("tariff: must be team, agent or service")
    return SeatStarted(at_ms, tenant, _name(fields, "lease"), _id(fields, "user"), tariff)


def _ended(at_ms: int, tenant: str, fields: _Line) -> Event:
    return SeatEnded(at_ms, tenant, _name(fields, "lease"))


def _denied(at_ms: int, tenant: str, fields: _Line) -> Event:
    return Denied(at_ms, tenant, _id(fields, "user"), _name(fields, "reason"))


def _metered(at_ms: int, tenant: str, fields: _Line) -> Event:
    quantity = fields["quantity"]
    if not isinstance(quantity, str) or not _QUANTITY.match(quantity):
        raise HistoryError("quantity: must be a string of at most 12 digits and 6 decimals, 0 or more")
    return Metered(at_ms, tenant, _id(fields, "product"), Decimal(quantity), _name(fields, "id"))


_Make = Callable[[int, str, _Line], Event]


_Shape = tuple[tuple[str, ...], tuple[str, ...], _Make]
"""The fields that an event must have, those that it may have, and what makes it."""


def _shape(make: _Make, required: str, optional: str = "") -> _Shape:
    return ("at", "tenant", "event", *required.split()), tuple(optional.split()), make


_EVENTS: Final[Mapping[str, _Shape]] = {
    "tariff": _shape(_tariff, "tariff", "trial"),
    "booking": _shape(_booking, "product quantity"),
    "bound": _shape(_bound, "product user"),
    "unbound": _shape(_bound, "product user"),
    "seat_started": _shape(_started, "lease user", "tariff"),
    "seat_ended": _shape(_ended, "lease"),
    "denied": _shape(_denied, "user reason"),
    "metered": _shape(_metered, "product quantity id"),
}
