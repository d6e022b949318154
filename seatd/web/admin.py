"""The admin routes of the internal listener, together: JSON only, each behind the key it needs.

Whoever mounts them brings the middleware `problems`, a bound on bodies, and the services under `auth.SERVICES`.
"""

from aiohttp import web

from seatd.flows.services import Services
from seatd.web import admin_access, admin_contracts, admin_leases, admin_tenants
from seatd.web.auth import SERVICES
from seatd.web.listener import add_routes


def add_admin_routes(app: web.Application, services: Services) -> None:
    """Mount every admin route on `app`, to be served from `services`."""
    app[SERVICES] = services
    for family in (admin_tenants, admin_contracts, admin_leases, admin_access):
        add_routes(app, family.ROUTES)
