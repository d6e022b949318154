"""End leases by the word of an administrator: revoke one, or take a named seat away from its user.

Decides the order in which the two planes hear of it.  A lease is ended first (asking again changes nothing), then the
audit log says so, and only then is a seat freed by force: so no forced revocation is unaudited, whatever fails in
between, and whoever was told of a failure asks again.
"""

from dataclasses import dataclass

from seatd.accounts import people
from seatd.accounts.changes import changing
from seatd.flows.services import AWAY, Effected, Services, effect
from seatd.model import AGENT_PRODUCT, SERVICE_PRODUCT, Refusal

ENDS_LEASES = frozenset({AGENT_PRODUCT, SERVICE_PRODUCT})
"""Products without whose binding a lease of the same kind may not go on."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """Whose lease was ended, the instant from which the seat is free, and how long its user may not sit."""

    lease: str
    user: str
    free_ms: int
    forced: bool
    hold_ms: int


async def revoke(
    services: Services, tenant: str, lease: str, *, force: bool, hold_ms: int | None, actor: str
) -> Revoked:
    """End a lease; `force` frees the seat at once, though its client may still believe in it.

    For `hold_ms` (None: the setting's) its user may not sit again.
    Raises `Refusal`: `not_found` for an unknown tenant or lease, `store_unavailable`, `database_unavailable`.
    """
    await services.accounts.tenant(tenant)
    hold_ms = services.revoke_hold_ms if hold_ms is None else hold_ms
    user, free_ms = await services.seats.revoke(tenant, lease, hold_ms=hold_ms)
    await _audited(services, tenant, lease, user, force=force, hold_ms=hold_ms, actor=actor)
    if force:
        free_ms = await _freed(services, tenant, lease, hold_ms)
    return Revoked(lease, user, free_ms, force, hold_ms)


async def _freed(services: Services, tenant: str, lease: str, hold_ms: int) -> int:
    try:
        return (await services.seats.revoke(tenant, lease, force=True, hold_ms=hold_ms))[1]
    except Refusal as refusal:
        if refusal.code != "not_found":
            raise
        return services.accounts.clock()  # its client gave the seat back meanwhile


async def _audited(
    services: Services, tenant: str, lease: str, user: str, *, force: bool, hold_ms: int, actor: str
) -> None:
    accounts = services.accounts
    async with changing(accounts.engine, accounts.clock, tenant, actor) as change:
        person = await people.person_of(change.connection, tenant, user)
        detail = {"lease": lease, "person": person, "forced": force, "hold_ms": hold_ms}
        change.record("lease.revoke", detail, projects=False)


async def unbind(services: Services, tenant: str, product: str, user: str, *, actor: str) -> Effected[bool]:
    """End a binding, and with a named or a service seat the lease that the user holds on it.

    Where the seat plane is away the lease ends at its next renewal: the policy no longer names the user.
    """
    done = await effect(services, tenant, services.accounts.unbind(tenant, product, user, actor=actor))
    if product not in ENDS_LEASES or not done.projected:
        return done
    try:
        await services.seats.revoke_user(tenant, user, product)
    except Refusal as refusal:
        if refusal.code not in AWAY:
            raise
        return Effected(done.result, projected=False)
    return done
