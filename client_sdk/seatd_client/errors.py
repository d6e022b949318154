"""Every way in which holding a seat can fail, as a type to catch.

Decides which exception a refusal of the server becomes, and which failures are worth trying again
(`Transient`).  How often and how long to try is decided in `lease`; nothing here does I/O.

    SeatError
      Transient            trying again may help; `retry_after_ms` where the server said when
        ConnectionFailed   no answer: refused, reset, timed out
        InvalidReply       an answer that the contract does not know
      Refused              a problem of the server: `code`, `status`, `title`, `detail`, `fields`
        ServerFailed       429 or 5xx: a `Transient` too
        NoSeat, SeatElsewhere, NotNamed, LeaseGone, ... one type a code
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class SeatError(Exception):
    """Something that kept a seat from being taken, renewed or given back."""


class Transient(SeatError):
    """A failure that may pass: the same request is worth sending again."""

    retry_after_ms: int | None = None
    """After how many milliseconds the server asked to be tried again; None where it did not say."""


class ConnectionFailed(Transient):
    """The server could not be reached, or did not answer in time."""


class InvalidReply(Transient):
    """Something answered, but not as a seatd does: a proxy's page, a foreign service."""


class Refused(SeatError):
    """The server refused a request; the base of all codes, and the type of 4xx codes unknown here.

    `fields` are the members of the problem beyond `type`, `title`, `status`, `code` and `detail`.
    The members that the contract names for a code are attributes too; one that the server left out
    or sent with a wrong type keeps its neutral value (0, "" or None).
    """

    CODE: ClassVar[str] = ""
    INTEGERS: ClassVar[tuple[str, ...]] = ()
    TEXTS: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        code: str = "",
        status: int = 0,
        title: str = "",
        detail: str = "",
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Make the refusal of a problem's members."""
        self.code = code or self.CODE
        self.status = status
        self.title = title
        self.detail = detail
        self.fields = dict(fields or {})
        super().__init__(self.code)  # what unpickling calls us with again; the rest it copies
        self._take(self.INTEGERS, int)
        self._take(self.TEXTS, str)

    def _take(self, names: tuple[str, ...], kind: type) -> None:
        for name in names:
            if type(self.fields.get(name)) is kind:
                setattr(self, name, self.fields[name])

    def __str__(self) -> str:
        return f"{self.code}: {self.detail or self.title or f'status {self.status}'}"


class ServerFailed(Refused, Transient):
    """The server is overloaded or broken for now: 429, or any 5xx; `place` keeps the turn of who waits in line."""

    INTEGERS = ("retry_after_ms",)
    TEXTS = ("place",)
    place: str | None = None


class InvalidRequest(Refused):
    """A body, id or header was malformed; `errors` is a list of `{"field", "reason"}`."""

    CODE = "invalid_request"

    @property
    def errors(self) -> list[Mapping[str, Any]]:
        """List what was malformed, one mapping of `field` and `reason` each."""
        found = self.fields.get("errors")
        return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


class ReceiptInvalid(InvalidRequest):
    """The receipt is malformed, or was not made by this server."""

    CODE = "receipt_invalid"


class Unauthorized(Refused):
    """The key is missing, unknown, expired or revoked."""

    CODE = "unauthorized"


class Forbidden(Refused):
    """The key does not reach this."""

    CODE = "forbidden"


class NotNamed(Refused):
    """The tenant rents named seats and the user is not named; `product` says for what."""

    CODE = "not_named"
    TEXTS = ("product",)
    product: str = ""


class AddonNotNamed(Refused):
    """The user is not named for the add-on `product`."""

    CODE = "addon_not_named"
    TEXTS = ("product",)
    product: str = ""


class _NotWorking(Refused):
    INTEGERS = ("since_ms",)
    since_ms: int = 0


class Suspended(_NotWorking):
    """The tenant is suspended, since the instant `since_ms`."""

    CODE = "suspended"


class TrialExpired(_NotWorking):
    """The tenant's trial is over, since the instant `since_ms`."""

    CODE = "trial_expired"


class NoTariff(_NotWorking):
    """The tenant has no tariff, since the instant `since_ms`."""

    CODE = "no_tariff"


class NotFound(Refused):
    """The server knows no such route or thing."""

    CODE = "not_found"


class MethodNotAllowed(Refused):
    """The route does not take this method."""

    CODE = "method_not_allowed"


class NoSeat(Refused):
    """Every seat is taken.

    `capacity`, `in_use` and `waiting` are counts, `next_expiry_ms` an instant (UTC), and
    `retry_after_ms` and `eta_ms` durations.  `position`, `eta_ms` and `place` come with a line.
    """

    CODE = "no_seat"
    INTEGERS = ("capacity", "in_use", "waiting", "next_expiry_ms", "retry_after_ms", "position", "eta_ms")
    TEXTS = ("place",)
    capacity: int = 0
    in_use: int = 0
    waiting: int = 0
    next_expiry_ms: int = 0
    retry_after_ms: int = 0
    position: int | None = None
    eta_ms: int | None = None
    place: str | None = None


class SeatElsewhere(Refused):
    """The user holds the seat on another client, `client`, since `since_ms`; `takeover` moves it."""

    CODE = "seat_elsewhere"
    INTEGERS = ("since_ms",)
    TEXTS = ("client",)
    client: str = ""
    since_ms: int = 0


class RequestIdReused(Refused):
    """The request id was used for a request of other content."""

    CODE = "request_id_reused"


class Conflict(Refused):
    """The request conflicts with what stands; `retry_after_ms` where that passes, `reason` where it was told."""

    CODE = "conflict"
    INTEGERS = ("retry_after_ms",)
    TEXTS = ("reason",)
    retry_after_ms: int | None = None
    reason: str = ""


class LeaseGone(Refused):
    """The lease is lost for good; `reason` says why (`expired`, `taken_over`, `revoked`, ...)."""

    CODE = "lease_gone"
    TEXTS = ("reason",)
    reason: str = "unknown"


class TooLarge(Refused):
    """The request's body is too large."""

    CODE = "too_large"


class UnsupportedMediaType(Refused):
    """The server does not read this media type."""

    CODE = "unsupported_media_type"


class RateLimited(ServerFailed):
    """Too many requests; come back after `retry_after_ms`."""

    CODE = "rate_limited"


class Busy(ServerFailed):
    """The server's queue is too old; come back after `retry_after_ms`."""

    CODE = "busy"


class Internal(ServerFailed):
    """The server failed, and says no more."""

    CODE = "internal"


class Learning(ServerFailed):
    """The server lost its seats and learns them again from renewals; come back later."""

    CODE = "learning"


class StoreUnavailable(ServerFailed):
    """The server's seat store is away; come back after `retry_after_ms`."""

    CODE = "store_unavailable"


def _typed(base: type[Refused]) -> list[type[Refused]]:
    return [base, *(found for sub in base.__subclasses__() for found in _typed(sub))]


BY_CODE: Mapping[str, type[Refused]] = {kind.CODE: kind for kind in _typed(Refused) if kind.CODE}
"""The exception of every code of a problem that a client can meet."""


def of_problem(status: int, members: Mapping[str, Any], retry_after_ms: int | None = None) -> SeatError:
    """Make the exception of a problem's `members`, answered with `status`.

    A code unknown here becomes a `ServerFailed` (429, 5xx) or a plain `Refused` (other 4xx); anything
    below 400 an `InvalidReply`.  `retry_after_ms` is what the Retry-After header said, if anything.
    """
    if status < 400:
        return InvalidReply(f"status {status} is not an answer of seatd")
    passing = status == 429 or status >= 500
    code = members.get("code")
    code = code if isinstance(code, str) and code else f"status_{status}"
    kind = BY_CODE.get(code, ServerFailed if passing else Refused)
    fields = {name: value for name, value in members.items() if name not in _COMMON}
    error = kind(code, status, _text(members, "title"), _text(members, "detail"), fields)
    if isinstance(error, Transient) and error.retry_after_ms is None:
        error.retry_after_ms = retry_after_ms
    return error


_COMMON = frozenset({"type", "title", "status", "code", "detail"})


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    return value if isinstance(value, str) else ""
