"""What the account plane answers with: frozen, made of integers, strings and each other.

No SQL and no rule may live here.  Instants are milliseconds since the UTC epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypedDict, TypeVar

from seatd.model import Scope, Tariff

T = TypeVar("T")

BookingState = Literal["in_force", "scheduled", "past", "cancelled"]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a list, and what to pass as `after` for those that follow (None: no more)."""

    items: tuple[T, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Booking:
    """An absolute quantity of a product, ordered at `decided_ms`, in force from `effective_ms`."""

    id: int
    product: str
    quantity: int
    effective_ms: int
    decided_ms: int
    cancelled_ms: int | None
    state: BookingState


@dataclass(frozen=True, slots=True)
class BookingDecision:
    """What a booking came to: what now stands, and the scheduled booking that it replaced.

    `booking` is the row that says the wanted quantity: the new one, or the one that said so already.
    `changed` is false where everything stood as wanted and nothing was written.
    """

    booking: Booking
    replaced: Booking | None
    changed: bool


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer project as it stands.

    `tariff` is none where the contract ended or a trial ran out.  `capacity` is the booked quantity of the
    tariff's product, 0 without one.  `bookings` are those in force and scheduled; `bindings` counts the
    standing ones, of all products.
    """

    id: str
    name: str
    customer: str
    labels: Mapping[str, str]
    tariff: Tariff | None
    tariff_since_ms: int
    trial: bool
    trial_until_ms: int | None
    suspended_since_ms: int | None
    lease_ttl_ms: int
    capacity: int
    bookings: tuple[Booking, ...]
    bindings: int
    policy_version: int
    created_ms: int


@dataclass(frozen=True, slots=True)
class TenantChange:
    """A tenant after a change; `changed` is false where nothing was written."""

    tenant: Tenant
    created: bool
    changed: bool
    decision: BookingDecision | None = None


class TenantFields(TypedDict, total=False):
    """What a PUT may say of a tenant; a field left out stays as it is.

    `tariff` None ends the contract; `trial_until_ms` None takes a trial up, or drops it.
    """

    name: str
    customer: str
    labels: Mapping[str, str]
    tariff: Tariff | None
    seats: int
    lease_ttl_ms: int
    trial_until_ms: int | None
    suspended: bool


@dataclass(frozen=True, slots=True)
class Binding:
    """A user who is named for a product since `bound_ms`."""

    product: str
    user: str
    person: str
    bound_ms: int


@dataclass(frozen=True, slots=True)
class Key:
    """A key as lists show it: never the key itself."""

    id: str
    scope: Scope
    tenant: str | None
    created_ms: int
    expires_ms: int | None
    last_used_ms: int | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: the only time that its text is known."""

    id: str
    key: str
    scope: Scope
    tenant: str | None
    expires_ms: int | None


@dataclass(frozen=True, slots=True)
class NewReceiptKey:
    """A key of receipts that was just made: it signs from an instant on, those before it verify until another."""

    kid: str
    signs_from_ms: int
    older_verify_until_ms: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What a bearer key opens, and for whom (`tenant` None: for no tenant in particular)."""

    id: str
    scope: Scope
    tenant: str | None


@dataclass(frozen=True, slots=True)
class Metered:
    """A reported quantity (decimal text without trailing zeros); `created` is false for a repetition."""

    product: str
    id: str
    quantity: str
    at_ms: int
    created: bool


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry of the audit log; `detail` names people by their id only."""

    seq: int
    at_ms: int
    actor: str
    action: str
    tenant: str | None
    detail: Mapping[str, Any]
    prev_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Due:
    """A tenant whose policy is to be projected, and the outbox row that says so."""

    id: int
    tenant: str
