"""How the account plane's records look on the wire: one function a record, and the shape of lists and answers.

No lookup and no rule may live here.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from aiohttp import web

from seatd.accounts.records import AuditRow, Binding, Booking, BookingDecision, Key, Metered, NewKey
from seatd.flows.tenancy import TenantNow
from seatd.model import Scope
from seatd.seats.model import Sitting
from seatd.web.codec import respond

NOT_PROJECTED: Final = "Seatd-Projected"
"""Header of an answer without a body, `false` where the change stands but is not in force yet."""

T = TypeVar("T")
View = dict[str, Any]


def listing(request: web.Request, rows: list[View], mark: str | int | None) -> web.Response:
    """Answer a page of a list; `next` only where more follow."""
    body: View = {"items": rows}
    if mark is not None:
        body["next"] = str(mark)
    return respond(request, body)


def nothing(*, projected: bool) -> web.Response:
    """Answer 204, and say so where the change is not in force yet."""
    return web.Response(status=204, headers={} if projected else {NOT_PROJECTED: "false"})


def tenant(now: TenantNow) -> View:
    """Lay a tenant out; `in_use` and `waiting` are null where the seat store is away."""
    record = now.tenant
    return {
        "tenant": record.id,
        "name": record.name,
        "customer": record.customer,
        "tariff": record.tariff,
        "tariff_since_ms": record.tariff_since_ms,
        "trial": record.trial,
        "trial_until_ms": record.trial_until_ms,
        "suspended": record.suspended_since_ms is not None,
        "suspended_since_ms": record.suspended_since_ms,
        "lease_ttl_ms": record.lease_ttl_ms,
        "labels": dict(record.labels),
        "capacity": record.capacity,
        "in_use": now.in_use,
        "waiting": now.waiting,
        "bookings": [booking(row) for row in record.bookings],
        "bindings": record.bindings,
        "policy_version": record.policy_version,
        "created_ms": record.created_ms,
    }


def booking(record: Booking) -> View:
    """Lay a booking out; `cancelled_ms` only where it was."""
    view: View = {
        "id": record.id,
        "product": record.product,
        "quantity": record.quantity,
        "effective_ms": record.effective_ms,
        "decided_ms": record.decided_ms,
        "state": record.state,
    }
    if record.cancelled_ms is not None:
        view["cancelled_ms"] = record.cancelled_ms
    return view


def decision(record: BookingDecision) -> View:
    """Lay out what a booking came to; `replaced` is the scheduled one that it ended, if there was one."""
    view = booking(record.booking)
    if record.replaced is not None:
        view["replaced"] = booking(record.replaced)
    return view


def binding(record: Binding) -> View:
    """Lay out who is named."""
    return {"product": record.product, "user": record.user, "bound_ms": record.bound_ms}


def sitting(record: Sitting) -> View:
    """Lay out who sits; `ending` only where the lease will not be renewed any more, and why."""
    view: View = {
        "lease": record.lease,
        "user": record.user,
        "client": record.client,
        "tariff": record.kind,
        "since_ms": record.since_ms,
        "expires_ms": record.expires_ms,
    }
    if record.ending:
        view["ending"] = record.ending
    return view


def key(record: Key) -> View:
    """Lay a key out as lists show it."""
    return {
        "id": record.id,
        "scope": record.scope,
        "created_ms": record.created_ms,
        "expires_ms": record.expires_ms,
        "last_used_ms": record.last_used_ms,
    }


def new_key(record: NewKey) -> View:
    """Lay out a key that was just made, with its text."""
    view: View = {"key": record.key, "id": record.id, "scope": Scope(record.scope)}
    if record.expires_ms is not None:
        view["expires_ms"] = record.expires_ms
    return view


def metered(record: Metered) -> View:
    """Lay a reported quantity out."""
    return {
        "product": record.product,
        "id": record.id,
        "quantity": record.quantity,
        "at_ms": record.at_ms,
    }


def audit_row(record: AuditRow, name_of: Callable[[str], str | None]) -> View:
    """Lay an entry of the audit log out; `user` is the name of the person it tells of, while that is known."""
    view: View = {
        "seq": record.seq,
        "at_ms": record.at_ms,
        "actor": record.actor,
        "action": record.action,
        "tenant": record.tenant,
        "detail": dict(record.detail),
        "prev_hash": record.prev_hash,
        "hash": record.hash,
    }
    name = name_of(record.detail.get("person", ""))
    if name is not None:
        view["user"] = name
    return view
