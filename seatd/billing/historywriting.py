"""Write what happened to a tenant in a month as lines of a history, in one order, so that its bytes are always the same.

Decides what a month's history holds: every setting that holds in it, hence of those before it only the latest, and what
happened within it.  A lease that goes on beyond the end of the month is open there.  Lines of one kind and product stand together,
so that what is under a charge is a range.  Reading them back is `historyfile`'s.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Final

from seatd.billing.events import Booked, Bound, Denied, Event, Metered, SeatEnded, SeatStarted, TariffSet
from seatd.billing.months import Month
from seatd.model import SERVICE_PRODUCT

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DAY_MS: Final = 86_400_000
_json: Final = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Told:
    """A tenant's lines: `history`, and of products that the price list does not know `unpriced`.

    `kinds` are those of the history's lines: what is said, of which product.
    """

    history: tuple[bytes, ...]
    unpriced: tuple[bytes, ...]
    kinds: tuple[tuple[str, str], ...]


def told(events: Iterable[Event], month: Month, products: Collection[str]) -> Told:
    """Write one tenant's events, those before the month in their order, as far as they bear on it.

    `products` are those that the price list knows.
    """
    history: list[bytes] = []
    unpriced: list[bytes] = []
    kinds: list[tuple[str, str]] = []
    for event in _sorted(_of_month(events, month)):
        product = getattr(event, "product", "")
        if product in products or product in ("", SERVICE_PRODUCT):
            history.append(line(event))
            kinds.append((_KINDS[type(event)], product))
        else:
            unpriced.append(line(event))
    return Told(tuple(history), tuple(unpriced), tuple(kinds))


def line(event: Event) -> bytes:
    """Write one line."""
    name, fields = _FIELDS[type(event)](event)
    head = {"at": instant(event.at_ms), "tenant": event.tenant, "event": name}
    return (_json(head | fields) + "\n").encode()


def instant(at_ms: int) -> str:
    """Write an instant in UTC, with milliseconds where it has any."""
    days, in_day_ms = divmod(at_ms, _DAY_MS)
    seconds, milliseconds = divmod(in_day_ms, 1000)
    fraction = f".{milliseconds:03}" if milliseconds else ""
    return f"{_day(days)}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}Z"


@lru_cache(maxsize=1024)
def _day(days: int) -> str:
    return date.fromordinal(_EPOCH_DAY + days).isoformat()


def _of_month(events: Iterable[Event], month: Month) -> Iterator[Event]:
    before: dict[tuple[str, ...], Event] = {}
    within: list[Event] = []
    for event in events:
        if event.at_ms >= month.end_ms:
            continue
        thing = _thing(event)
        if thing is not None and event.at_ms <= month.start_ms:
            earlier = before.get(thing)
            if earlier is None or earlier.at_ms <= event.at_ms:
                before[thing] = event
        else:
            within.append(event)
    yield from (event for event in before.values() if not isinstance(event, Bound) or event.bound)
    yield from within


def _thing(event: Event) -> tuple[str, ...] | None:
    """Name what an event sets, so that a later one replaces it; None where it sets nothing."""
    if isinstance(event, TariffSet):
        return ("tariff",)
    if isinstance(event, Booked):
        return ("booking", event.product)
    return ("bound", event.product, event.user) if isinstance(event, Bound) else None


_KINDS: Final = {
    TariffSet: "tariff",
    Booked: "booking",
    Bound: "bound",
    Metered: "metered",
    SeatStarted: "seat",
    SeatEnded: "seat",
    Denied: "denied",
}
_ORDER: Final = (TariffSet, Booked, Bound, Metered, SeatStarted, SeatEnded, Denied)


def _sorted(events: Iterable[Event]) -> list[Event]:
    """Sort by kind and product, then by instant; leases stay in the order in which they came."""

    def place(event: Event) -> tuple[int, str, int]:
        if isinstance(event, SeatStarted | SeatEnded):
            return (_ORDER.index(SeatStarted), "", 0)
        return (_ORDER.index(type(event)), getattr(event, "product", ""), event.at_ms)

    return sorted(events, key=place)


def _tariff(event: TariffSet) -> tuple[str, dict[str, Any]]:
    return "tariff", {"tariff": event.tariff, **({"trial": True} if event.trial else {})}


def _booked(event: Booked) -> tuple[str, dict[str, Any]]:
    return "booking", {"product": event.product, "quantity": event.quantity}


def _bound(event: Bound) -> tuple[str, dict[str, Any]]:
    return "bound" if event.bound else "unbound", {"product": event.product, "user": event.user}


def _metered(event: Metered) -> tuple[str, dict[str, Any]]:
    quantity = format(event.quantity, "f")
    return "metered", {"product": event.product, "quantity": quantity, "id": event.id}


def _started(event: SeatStarted) -> tuple[str, dict[str, Any]]:
    return "seat_started", {
        "lease": event.lease,
        "user": event.user,
        **({"tariff": event.tariff} if event.service else {}),
    }


def _ended(event: SeatEnded) -> tuple[str, dict[str, Any]]:
    return "seat_ended", {"lease": event.lease}


def _denied(event: Denied) -> tuple[str, dict[str, Any]]:
    return "denied", {"user": event.user, "reason": event.reason}


_FIELDS: Final[dict[type, Callable[[Any], tuple[str, dict[str, Any]]]]] = {
    TariffSet: _tariff,
    Booked: _booked,
    Bound: _bound,
    Metered: _metered,
    SeatStarted: _started,
    SeatEnded: _ended,
    Denied: _denied,
}
