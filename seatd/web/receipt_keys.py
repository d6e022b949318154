"""The admin route that rotates the keys of receipts and proofs."""

from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta, Struct

from seatd.flows.keyring import SIGNS_IN_MS, SIGNS_IN_MS_MIN, Keys
from seatd.model import TTL_MS_MAX
from seatd.web.admin_reading import NoQuery, query
from seatd.web.auth import GRANT, for_admin
from seatd.web.client import KEYS
from seatd.web.codec import Body, respond


class RotateBody(Struct, forbid_unknown_fields=True):
    """When the new key begins to sign."""

    signs_in_ms: Annotated[int, Meta(ge=SIGNS_IN_MS_MIN, le=TTL_MS_MAX)] = SIGNS_IN_MS


_ROTATE: Final = Body(RotateBody)


async def _rotate(request: web.Request) -> web.Response:
    query(request, NoQuery)
    body = await _ROTATE.read(request, json_only=True) if request.body_exists else RotateBody()
    new = await request.app[KEYS].rotate(signs_in_ms=body.signs_in_ms, actor=request[GRANT].id)
    view = {
        "kid": new.kid,
        "signs_from_ms": new.signs_from_ms,
        "older_verify_until_ms": new.older_verify_until_ms,
    }
    return respond(request, view, 201)


def add_receipt_key_routes(app: web.Application, keys: Keys) -> None:
    """Mount the route, behind the admin key."""
    app[KEYS] = keys
    app.add_routes([web.post("/v1/receipt-keys", for_admin(_rotate))])
