"""Refusals as problems (RFC 9457), for every listener: one middleware, no stack trace, no secret."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from seatd.model import Refusal
from seatd.telemetry import log
from seatd.web.codec import MSGPACK, encode, wants_msgpack

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_BY_STATUS: Final = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
}
CODE: Final[web.ResponseKey[str]] = web.ResponseKey("code", str)
"""Where a problem response keeps its code, for metrics."""


def problem(refusal: Refusal) -> dict[str, Any]:
    """Lay a refusal out as a problem: the five members of RFC 9457 and the code's own fields."""
    body = {
        "type": f"urn:seatd:problem:{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "code": refusal.code,
        "detail": refusal.detail,
    }
    return body | refusal.fields


def response(request: web.BaseRequest, refusal: Refusal) -> web.Response:
    """Answer a refusal in the encoding the caller understands."""
    msgpack = wants_msgpack(request)
    answer = web.Response(
        status=refusal.status,
        body=encode(problem(refusal), msgpack=msgpack),
        content_type=MSGPACK if msgpack else "application/problem+json",
    )
    answer.headers.update(headers_of(refusal))
    answer[CODE] = refusal.code
    return answer


def headers_of(refusal: Refusal) -> dict[str, str]:
    """Tell the headers that go with a refusal, beside those of its body."""
    retry_after_ms = refusal.fields.get("retry_after_ms")
    if retry_after_ms is not None and refusal.status in (429, 503):
        return {"Retry-After": str(max(1, -(-retry_after_ms // 1000)))}
    return {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}


def of_status(status: int) -> Refusal:
    """Say what a status of 400 and above is called here."""
    return Refusal(_BY_STATUS.get(status, "internal" if status >= 500 else "invalid_request"))


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every refusal and every fault as a problem."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return response(request, refusal)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        answer = response(request, of_status(error.status))
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except ConnectionResetError:  # the caller has gone; nobody reads an answer
        raise
    except Exception:  # noqa: BLE001 - whatever it was, the caller gets a problem and we the trace
        log.exception("request failed", method=request.method, route=str(request.match_info.route.resource))
        return response(request, Refusal("internal", "Something went wrong on our side."))
