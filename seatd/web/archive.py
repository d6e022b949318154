"""Archive a closed month, on the internal listener.  Decode, call, encode."""

from typing import Final

from aiohttp import web

from seatd.flows.retention import Archiving
from seatd.web.admin_reading import NoQuery, query
from seatd.web.auth import GRANT, for_billing
from seatd.web.closed import MONTH
from seatd.web.codec import respond

ARCHIVING: Final = web.AppKey("archiving", Archiving)


async def _archive(request: web.Request) -> web.Response:
    query(request, NoQuery)
    archived = await request.app[ARCHIVING].archive(request.match_info["month"], actor=request[GRANT].id)
    body = {"folder": str(archived.folder), **archived.signed}
    return respond(request, body, 201 if archived.created else 200)


def add_archive_routes(app: web.Application, archiving: Archiving) -> None:
    """Mount the route; the application has `auth.SERVICES` set, and the `problems` middleware."""
    app[ARCHIVING] = archiving
    app.add_routes([web.post(f"/v1/billing/{MONTH}/archive", for_billing(_archive))])
