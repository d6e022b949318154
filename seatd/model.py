"""The plain data that planes share: ids, tariffs, a tenant's policy, usage events, refusals.

Everything here is frozen, made of integers and strings, and free of I/O and clocks.  Planes never
import each other; what crosses from one to another crosses as one of these.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

ID_PATTERN: Final = r"^[A-Za-z0-9._@:+\-]{1,128}\Z"
"""What a tenant, customer, user, client, product or request id looks like (contract: API.md)."""

_ID = re.compile(ID_PATTERN, re.ASCII)

TTL_MS_DEFAULT: Final = 300_000
TTL_MS_MIN: Final = 2_000
TTL_MS_MAX: Final = 3_600_000
LABELS_MAX: Final = 8

AGENT_PRODUCT: Final = "agent"
TEAM_PRODUCT: Final = "team"
SERVICE_PRODUCT: Final = "service"


def is_id(text: str) -> bool:
    """Tell whether `text` may name a tenant, user, client, product or request."""
    return _ID.match(text) is not None


class Tariff(StrEnum):
    """How a tenant rents seats; a tenant has one or none at any instant."""

    TEAM = "team"
    AGENT = "agent"

    @property
    def product(self) -> str:
        """The product whose bookings are this tariff's seats."""
        return self.value


class Kind(StrEnum):
    """Under what a lease was granted: a tariff, or service (outside cap, count and bill)."""

    TEAM = "team"
    AGENT = "agent"
    SERVICE = "service"


class Scope(StrEnum):
    """What a key opens."""

    CLIENT = "client"
    TENANT_ADMIN = "tenant_admin"
    BILLING = "billing"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """What the seat plane knows of a key: never the key itself."""

    id: str
    scope: Scope
    expires_ms: int | None = None


class Tombstone(NamedTuple):
    """A user's receipts with a start up to `start_ms` are void, for `reason`."""

    user: str
    start_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """One tenant's rules as the seat plane enforces them, in force from one version to the next.

    `version` rises with every account change of the tenant.  `cap` is the booked quantity of the
    tariff's product now.  `bindings` maps a user to the products that user is named for (`agent`,
    `service`, add-ons).  `open_addons` are booked products of scope `tenant`: everybody has them.
    `keys` maps the SHA-256 of a key (hex) to what it opens.  `ended_version` is the version of the latest change
    that ended every lease, for `ended_reason`.  What follows matters to a store that an epoch was opened on
    since: `learn_ttl_ms` is the longest ttl that may still be running (0: the tenant does not learn), and
    `tombstones` say whose receipts are void.  `epoch` is the newest that SQL knew when these were read (0: not told).
    """

    tenant: str
    version: int
    tariff: Tariff | None
    cap: int
    ttl_ms: int = TTL_MS_DEFAULT
    no_tariff_since_ms: int = 0
    suspended_since_ms: int | None = None
    trial_until_ms: int | None = None
    bindings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    open_addons: tuple[str, ...] = ()
    keys: Mapping[str, KeyGrant] = field(default_factory=dict)
    ended_version: int = 0
    ended_reason: str = ""
    learn_ttl_ms: int = 0
    tombstones: tuple[Tombstone, ...] = ()
    epoch: int = 0


EventKind = Literal["started", "ended", "denied", "sample", "adopted"]


class UsageEvent(NamedTuple):
    """What happened to a lease, or how full a tenant was in one minute.

    `seq` is gap-free per partition and epoch.  `stream_id` is the store's id of the entry: a cursor,
    never an identity.  Fields that a kind does not have are empty: `lease` and `user` on samples,
    `reason` on starts, `numbers` on all but samples (`in_use, peak, capacity, waiting, denied`).
    A sample's `at_ms` is the start of its minute.  `user` is the name the client gave; the recorder
    replaces it with the person's random id before anything is written.
    """

    partition: int
    epoch: int
    seq: int
    stream_id: str
    kind: EventKind
    tenant: str
    at_ms: int
    lease: str = ""
    user: str = ""
    tariff: str = ""
    reason: str = ""
    labels: Mapping[str, str] = {}
    numbers: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)


class UsageEvents(list[UsageEvent]):
    """Events of one partition in the order of their stream; `more`: there may be more of them."""

    def __init__(self, events: Iterable[UsageEvent] = (), *, more: bool = False) -> None:
        super().__init__(events)
        self.more = more


CODES: Final[Mapping[str, tuple[int, str]]] = {
    "invalid_request": (400, "The request is malformed"),
    "receipt_invalid": (400, "The receipt is not ours"),
    "unauthorized": (401, "No valid key"),
    "forbidden": (403, "The key does not reach this"),
    "not_named": (403, "The user is not named for a seat"),
    "addon_not_named": (403, "The user is not named for the add-on"),
    "suspended": (403, "The tenant is suspended"),
    "trial_expired": (403, "The trial is over"),
    "no_tariff": (403, "The tenant has no tariff"),
    "not_found": (404, "No such thing"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "no_seat": (409, "Every seat is taken"),
    "seat_elsewhere": (409, "The user holds the seat on another client"),
    "request_id_reused": (409, "The request id was used for another request"),
    "conflict": (409, "The request conflicts with what stands"),
    "no_booking_left": (409, "Every booked quantity is named"),
    "bindings_exceed": (409, "More users are named than would be booked"),
    "no_price_list": (409, "No price list is in force"),
    "not_over": (409, "The month is not over"),
    "usage_incomplete": (409, "Usage of the month is missing"),
    "lease_gone": (410, "The lease is gone"),
    "too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The media type is not supported"),
    "rate_limited": (429, "Too many requests"),
    "busy": (429, "Too busy"),
    "internal": (500, "Internal error"),
    "store_unavailable": (503, "The seat store is away"),
    "database_unavailable": (503, "The account database is away"),
    "learning": (503, "Seats are being learnt again"),
}
"""Every stable `code` of a problem (RFC 9457), with its HTTP status and title."""


class Refusal(Exception):
    """A request is refused, for a reason that has a stable code.

    `fields` are the extension members of the problem that the contract names for the code.
    Raises `KeyError` when made with a code that the contract does not know.
    """

    def __init__(self, code: str, detail: str = "", **fields: Any) -> None:
        """Make the refusal `code` with a sentence for people and the code's own fields."""
        self.code = code
        self.status, self.title = CODES[code]
        self.detail = detail or f"{self.title}."
        self.fields = fields
        super().__init__(f"{code}: {self.detail}")


def invalid(field_name: str, reason: str) -> Refusal:
    """Make the refusal of one malformed field."""
    return Refusal(
        "invalid_request", f"{field_name}: {reason}", errors=[{"field": field_name, "reason": reason}]
    )
