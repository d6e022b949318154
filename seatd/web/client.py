"""The public listener: acquire, renew, release, ask for an add-on, tell the keys of proofs.  Decode, call, encode."""

import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

from aiohttp import web
from msgspec import Meta, Struct

import seatd
from seatd.flows.keyring import Keys
from seatd.model import ID_PATTERN, LABELS_MAX, Refusal, Scope, invalid, is_id
from seatd.seats.model import WAIT_MS_MAX, Acquire, Caller, Lease
from seatd.seats.places import PLACE_MAX
from seatd.seats.receipts import RECEIPT_MAX
from seatd.seats.service import Seats
from seatd.telemetry import count_answer
from seatd.web.codec import Body, encode, respond
from seatd.web.listener import add_routes
from seatd.web.problems import CODE, problems
from seatd.web.problems import response as refused

BODY_MAX: Final = 64 * 1024
KEY_MAX: Final = 320
ADDONS_MAX: Final = 64
FEATURES: Final = (
    "acquire",
    "renew",
    "release",
    "addons",
    "takeover",
    "request_id",
    "labels",
    "proof",
    "wait_ms",
    "msgpack",
    "channel",
)
JWKS_FOR_S: Final = 30
"""How long others may keep the keys of proofs: a new one is told for a minute before it signs."""

SEATS: Final = web.AppKey("seats", Seats)
KEYS: Final = web.AppKey("keys", Keys)
KEY_USED: Final[web.AppKey[Callable[[str], None]]] = web.AppKey("key_used")
"""Told the SHA-256 of a key whenever it opened something."""

WAITS: Final = web.RequestKey("waits", bool)
"""Set on a request that waits in line: how long it took says nothing of how fast we are."""

T = TypeVar("T")

Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Text = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]*\Z")]


class AcquireBody(Struct, forbid_unknown_fields=True):
    """What a client sends to take a seat."""

    user: Id
    client: Id
    request_id: Id | None = None
    addons: Annotated[list[Id], Meta(max_length=ADDONS_MAX)] | None = None
    wait_ms: Annotated[int, Meta(ge=0, le=WAIT_MS_MAX)] = 0
    place: Annotated[str, Meta(max_length=PLACE_MAX)] | None = None
    takeover: bool = False
    proof: bool = False
    labels: Annotated[dict[Id, Text], Meta(max_length=LABELS_MAX)] | None = None


class RenewBody(Struct, forbid_unknown_fields=True):
    """What a client sends to renew."""

    receipt: Annotated[str, Meta(max_length=RECEIPT_MAX)]


ACQUIRE: Final = Body(AcquireBody)
RENEW: Final = Body(RenewBody)


def bearer(request: web.Request) -> str:
    """Read the key of a request; raises `Refusal` `unauthorized` where there is none that could be one."""
    return _bearer(request.headers.get("Authorization", ""))


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not 0 < len(token) <= KEY_MAX or not token.isascii():
        raise Refusal("unauthorized")
    return token


def caller_of(request: web.Request) -> Caller:
    """Read who calls from the client key, which names its tenant; whether it is valid the store decides."""
    return caller_of_key(request.headers.get("Authorization", ""))


def caller_of_key(authorization: str) -> Caller:
    """Read the same from the header's value."""
    token = _bearer(authorization)
    kind, _, rest = token.partition(".")
    if kind in {"sa", "sb", "st"}:
        raise Refusal("forbidden", f"A client route takes a key of scope {Scope.CLIENT}.")
    tenant, _, secret = rest.rpartition(".")
    if kind != "sc" or not is_id(tenant) or not secret:
        raise Refusal("unauthorized")
    return Caller(tenant, hashlib.sha256(token.encode()).hexdigest())


def granted(lease: Lease, proof: str | None = None) -> dict[str, Any]:
    """Lay out what an acquire came to."""
    body = {
        "lease": lease.lease,
        "tenant": lease.tenant,
        "user": lease.user,
        "client": lease.client,
        "tariff": lease.kind,
        "addons": list(lease.addons),
        "started_ms": lease.start_ms,
        "expires_ms": lease.expires_ms,
        "ttl_ms": lease.ttl_ms,
        "renew_after_ms": lease.renew_after_ms,
        "receipt": lease.receipt,
    }
    return body if proof is None else body | {"proof": proof}


NOT_OURS: Final = frozenset({"receipt_invalid", "invalid_request"})
"""What the seat plane says of a receipt, or of a place in line, that it cannot check."""


async def with_newest_keys(keys: Keys, call: Callable[[], Awaitable[T]]) -> T:
    """Call, and where what came back is not ours by the keys known here, look for newer ones and call once more."""
    known = keys.keyring
    try:
        return await call()
    except Refusal as refusal:
        if refusal.code not in NOT_OURS or not await keys.newer(known):
            raise
    return await call()


def renewed_body(lease: Lease) -> dict[str, Any]:
    """Lay out what a renewal came to."""
    return {
        "lease": lease.lease,
        "expires_ms": lease.expires_ms,
        "ttl_ms": lease.ttl_ms,
        "renew_after_ms": lease.renew_after_ms,
        "receipt": lease.receipt,
    }


def wanted_of(body: AcquireBody) -> Acquire:
    """Tell what is wanted by the body of an acquire."""
    return Acquire(
        user=body.user,
        client=body.client,
        request_id=body.request_id or "",
        takeover=body.takeover,
        addons=None if body.addons is None else tuple(dict.fromkeys(body.addons)),
        labels=body.labels or {},
        wait_ms=body.wait_ms,
        place=body.place or "",
    )


def receipt_missing() -> Refusal:
    """Make the refusal of a release that comes without its receipt."""
    return invalid("Seat-Receipt", "the header is missing")


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def acquired(
    app: web.Application, caller: Caller, body: AcquireBody, gone: Callable[[], bool]
) -> tuple[int, dict[str, Any]]:
    """Take or extend a seat; returns the status and the body of the answer."""
    seats, wanted = app[SEATS], wanted_of(body)
    lease = await with_newest_keys(app[KEYS], lambda: seats.acquire(caller, wanted, gone))
    app[KEY_USED](caller.key_hash)
    proof = app[KEYS].prove(lease) if body.proof else None
    return (201 if lease.created else 200), granted(lease, proof)


async def released(app: web.Application, caller: Caller, lease: str, receipt: str | None) -> tuple[int, None]:
    """Give a seat back; returns the status of the answer, which has no body."""
    if receipt is None:
        raise receipt_missing()
    await with_newest_keys(app[KEYS], lambda: app[SEATS].release(caller, lease, receipt))
    return 204, None


async def _acquire(request: web.Request) -> web.Response:
    caller = caller_of(request)
    body = await ACQUIRE.read(request)
    request[WAITS] = body.wait_ms > 0
    status, said = await acquired(request.app, caller, body, lambda: _gone(request))
    return respond(request, said, status)


async def _renew(request: web.Request) -> web.Response:
    caller = caller_of(request)
    body = await RENEW.read(request)
    seats, name = request.app[SEATS], request.match_info["lease"]
    lease = await with_newest_keys(request.app[KEYS], lambda: seats.renew(caller, name, body.receipt))
    request.app[KEY_USED](caller.key_hash)
    return respond(request, renewed_body(lease))


async def _release(request: web.Request) -> web.Response:
    caller = caller_of(request)
    receipt = request.headers.get("Seat-Receipt")
    status, _ = await released(request.app, caller, request.match_info["lease"], receipt)
    return web.Response(status=status)


async def _addon(request: web.Request) -> web.Response:
    caller = caller_of(request)
    product = request.match_info["product"]
    if not is_id(product):
        raise invalid("product", "must be 1 to 128 characters of A-Z a-z 0-9 . _ @ : + -")
    user = await request.app[SEATS].addon_user(caller, request.match_info["lease"], product)
    return respond(request, {"product": product, "user": user})


async def _about(request: web.Request) -> web.Response:
    return respond(request, {"version": seatd.__version__, "features": list(FEATURES)})


async def _jwks(request: web.Request) -> web.Response:
    return web.Response(
        body=encode(request.app[KEYS].jwks, msgpack=False),
        content_type="application/jwk-set+json",
        headers={"Cache-Control": f"public, max-age={JWKS_FOR_S}"},
    )


def _measured(
    op: str, handler: Callable[[web.Request], Awaitable[web.Response]]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Count and time the handler's answers, refusals included."""

    async def measured(request: web.Request) -> web.Response:
        began = time.perf_counter()
        try:
            answer = await handler(request)
        except Refusal as refusal:
            answer = refused(request, refusal)
        count_answer("wait" if request.get(WAITS) else op, answer.get(CODE, "ok"), began)
        return answer

    return measured


def make_app(seats: Seats, keys: Keys, key_used: Callable[[str], None]) -> web.Application:
    """Make the public listener's application."""
    app = web.Application(middlewares=[problems], client_max_size=BODY_MAX)
    app[SEATS] = seats
    app[KEYS] = keys
    app[KEY_USED] = key_used
    add_routes(
        app,
        [
            web.get("/v1", _about),
            web.get("/v1/jwks", _jwks),
            web.post("/v1/leases", _measured("acquire", _acquire)),
            web.post("/v1/leases/{lease}/renew", _measured("renew", _renew)),
            web.delete("/v1/leases/{lease}", _measured("release", _release)),
            web.get("/v1/leases/{lease}/addons/{product}", _measured("addon", _addon)),
        ],
    )
    return app
