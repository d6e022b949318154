"""What flows work on: the account plane, the seat plane, and the way from one to the other.

Decides what an administrator is told of a change that stands but could not be put into force: it is no error.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from seatd.accounts.service import Accounts
from seatd.model import Refusal
from seatd.seats.service import Seats

T = TypeVar("T")

AWAY: Final = frozenset({"store_unavailable", "database_unavailable", "busy"})
"""Refusals which say that a plane does not answer now, not that it says no."""


@dataclass(frozen=True, slots=True)
class Services:
    """The planes; `project` puts a tenant's policy of now into force (flows/policy.py).

    For `revoke_hold_ms` a revoked user may not sit again, unless the revocation says otherwise.
    """

    accounts: Accounts
    seats: Seats
    project: Callable[[str], Awaitable[object]]
    revoke_hold_ms: int


@dataclass(frozen=True, slots=True)
class Effected(Generic[T]):
    """What a change came to; `projected` is false where the seat plane has yet to hear of it."""

    result: T
    projected: bool


async def effect(services: Services, tenant: str, change: Awaitable[T]) -> Effected[T]:
    """Await an account change of `tenant`, then put it into force; raises what the change raises.

    Where the seat plane is away the change stands all the same: its outbox row is projected as soon as the
    store is back.  What was wanted and stood already is projected too, so that whoever asks again learns whether it is in
    force.
    """
    result = await change
    return Effected(result, await in_force(services, tenant))


async def in_force(services: Services, tenant: str) -> bool:
    """Project a tenant's policy; false where a plane is away."""
    try:
        await services.project(tenant)
    except Refusal as refusal:
        if refusal.code not in AWAY:
            raise
        return False
    return True
