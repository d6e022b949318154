"""Open a listener: an application on an address, whose every answer is ours.

What is no HTTP request never reaches the application, nor its middlewares; a `Connection` answers it with a problem
as well.  Routes are mounted here so that `{names}` in a path take any segment: what an id may hold is said by the
handlers (400), not by the router (404).  No handler lives here.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any, Final

from aiohttp import web

from seatd.config import Address, SettingError
from seatd.model import invalid
from seatd.telemetry import log
from seatd.web.problems import of_status, response

BACKLOG: Final = 1024
SHUTDOWN_S: Final = 10.0
_NO_LOG: Any = None  # what aiohttp takes for "no access log", whatever its types say
_NAME: Final = re.compile(r"\{([a-z]+)\}")


class Connection(web.RequestHandler):
    """A connection that answers what aiohttp cannot read as a request with a problem, then closes."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes what came: neither sent nor logged
    ) -> web.StreamResponse:
        """Answer what is not a request, or failed before the application had it."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was sent already")
        if status < 500:
            log.info("malformed request")
            refusal = invalid("request", "is not well-formed HTTP")
        else:
            log.error("request failed outside its handler", error=type(exc).__name__)
            refusal = of_status(status)
        answer = response(request, refusal)
        answer.force_close()
        return answer


def add_routes(app: web.Application, routes: Iterable[web.RouteDef]) -> None:
    """Mount routes; a plain `{name}` in a path takes any segment, braces included."""
    app.add_routes(
        [
            web.route(each.method, _NAME.sub(r"{\1:[^/]+}", each.path), each.handler, **each.kwargs)
            for each in routes
        ]
    )


def why(error: OSError) -> str:
    """Say what kept a listener from its address."""
    # The loop's own text repeats the address.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


async def listen(
    stack: AsyncExitStack,
    app: web.Application,
    address: Address,
    drain: Callable[[], Awaitable[None]] | None = None,
    *,
    shared: bool = False,
    connection: Callable[..., Connection] = Connection,
) -> str:
    """Serve an application on an address until `stack` closes, which lets requests in flight end.

    `drain` is awaited when nobody can connect any more and everybody is still served.  `shared` lets other processes
    listen there too; `connection` makes each connection's protocol.

    Returns the URL it is served at; raises `SettingError` where the address is not to be had.
    """
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    manager: Any = runner.server
    try:
        server = await loop.create_server(
            lambda: connection(manager, loop=loop, access_log=_NO_LOG),
            address.host,
            address.port,
            backlog=BACKLOG,
            reuse_port=shared or None,
        )
    except OSError as error:
        raise SettingError(f"Cannot listen on {address}: {why(error)}.") from None
    if drain is not None:
        stack.push_async_callback(drain)
    stack.callback(server.close)
    host, port = server.sockets[0].getsockname()[:2]
    return f"http://{Address(host, port)}"
