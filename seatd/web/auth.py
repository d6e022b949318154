"""The internal listener's keys: who asks, and whether the key reaches what is asked for.

Decides the three doors of the contract: admin alone, a tenant's own administration, billing.  A key that is not
known opens nothing (401); a known one that does not reach is told so (403), before anything of the request
is read or looked up.  A client key opens nothing here.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from seatd.accounts.records import Grant
from seatd.flows.services import Services
from seatd.model import Refusal, Scope
from seatd.web.client import KEY_USED, bearer

SERVICES: Final = web.AppKey("services", Services)
GRANT: Final = web.RequestKey("grant", Grant)
"""Where a handler behind a door finds whose key opened it."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def grant_of(request: web.Request) -> Grant:
    """Tell what the request's key opens; raises `Refusal`: `unauthorized`, `forbidden` for a client key."""
    token = bearer(request)
    grant = await request.app[SERVICES].accounts.grant(token)
    if grant is None:
        raise Refusal("unauthorized")
    if grant.scope is Scope.CLIENT:
        raise _forbidden()
    if KEY_USED in request.app:
        request.app[KEY_USED](hashlib.sha256(token.encode()).hexdigest())
    return grant


def require_admin(grant: Grant) -> None:
    """Let the admin key pass; raises `Refusal` `forbidden`."""
    if grant.scope is not Scope.ADMIN:
        raise _forbidden()


def require_tenant(grant: Grant, tenant: str) -> None:
    """Let the admin key and the tenant's own `tenant_admin` key pass; raises `Refusal` `forbidden`."""
    if grant.scope is Scope.TENANT_ADMIN and grant.tenant == tenant:
        return
    require_admin(grant)


def require_billing(grant: Grant) -> None:
    """Let the admin key and keys of scope `billing` pass; raises `Refusal` `forbidden`."""
    if grant.scope is not Scope.BILLING:
        require_admin(grant)


def for_admin(handler: Handler) -> Handler:
    """Put a handler behind the admin key."""
    return _behind(lambda grant, _: require_admin(grant), handler)


def for_tenant(handler: Handler) -> Handler:
    """Put a handler of a path with `{tenant}` behind the admin key or that tenant's own."""
    return _behind(lambda grant, request: require_tenant(grant, request.match_info["tenant"]), handler)


def for_billing(handler: Handler) -> Handler:
    """Put a handler behind the admin key or one of scope `billing`."""
    return _behind(lambda grant, _: require_billing(grant), handler)


def _behind(check: Callable[[Grant, web.Request], None], handler: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        grant = await grant_of(request)
        check(grant, request)
        request[GRANT] = grant
        return await handler(request)

    return guarded


def _forbidden() -> Refusal:
    return Refusal("forbidden", "This key does not reach this.")
