"""What can stand in a history: one frozen type a kind of line.

Instants are `at_ms`, UTC epoch milliseconds; ids are those of API.md.  The same types come from a
history file and from the rows of the ledger; what they add up to is `history`'s.  The two kinds of which there
are millions are tuples, which are made in a third of the time.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from seatd.model import Kind, Tariff


@dataclass(frozen=True, slots=True)
class TariffSet:
    """From here on the tenant has this tariff, on trial or not; None: it has none."""

    at_ms: int
    tenant: str
    tariff: Tariff | None
    trial: bool = False


@dataclass(frozen=True, slots=True)
class Booked:
    """From here on this quantity of the product is booked."""

    at_ms: int
    tenant: str
    product: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Bound:
    """From here on the user is, or with `bound` False is not, named for the product."""

    at_ms: int
    tenant: str
    product: str
    user: str
    bound: bool = True


class SeatStarted(NamedTuple):
    """A lease begins; `service` for a service user, who is outside count and bill.

    `tariff` is what was said of it: `team`, `agent`, `service`, or nothing.
    """

    at_ms: int
    tenant: str
    lease: str
    user: str
    tariff: str = ""

    @property
    def service(self) -> bool:
        """Tell whether the user is a service user."""
        return self.tariff == Kind.SERVICE


class SeatEnded(NamedTuple):
    """A lease is over from here on."""

    at_ms: int
    tenant: str
    lease: str


@dataclass(frozen=True, slots=True)
class Denied:
    """A user was refused a seat."""

    at_ms: int
    tenant: str
    user: str
    reason: str


@dataclass(frozen=True, slots=True)
class Metered:
    """So much of a product was delivered; `id` is unique within tenant and product.

    `quantity` is at least 0, with at most 12 digits before the point and 6 after.
    """

    at_ms: int
    tenant: str
    product: str
    quantity: Decimal
    id: str


Event = TariffSet | Booked | Bound | SeatStarted | SeatEnded | Denied | Metered
