"""Seats for asyncio programs: `async with SeatClient(url, key).seat(user="ana") as seat:`.

Decides what a program may ask for, and which way to the server it gets; what a seat does is `seat`'s work.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from types import TracebackType

import aiohttp

from seatd_client import wire
from seatd_client.clock import boottime_ms
from seatd_client.connection import Connection
from seatd_client.identity import client_id
from seatd_client.lease import Patience
from seatd_client.line import Line, wait_ms_of
from seatd_client.notices import Callbacks
from seatd_client.preferring import PreferringTransport
from seatd_client.seat import Seat
from seatd_client.transport import HttpTransport, Transport
from seatd_client.waiting import Clock


def new_request_id() -> str:
    """Make a request id that nobody else has."""
    return f"r_{secrets.token_hex(16)}"


class SeatClient:
    """A tenant's client of one seatd.

    `key` is a client key; it names the tenant.  `client` names this desktop (default: a random id
    kept per user and machine).  `patience` bounds every wait.  `session` is an aiohttp session to use
    instead of an own one, for proxies or TLS settings.  `channel` False: HTTP only, even where the server
    has a channel.  `transport` replaces both altogether.

    The connection is open while a seat is, or while the client itself is entered with `async with`.
    Raises `ValueError` for a URL or key that cannot be one.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        client: str | None = None,
        patience: Patience | None = None,
        session: aiohttp.ClientSession | None = None,
        transport: Transport | None = None,
        channel: bool = True,
        clock: Clock = boottime_ms,
    ) -> None:
        """Remember whom to ask, and how."""
        http = HttpTransport(url, wire.Writer(key), session)
        chosen = transport or (PreferringTransport(http, clock) if channel else http)
        self._connection = Connection(chosen, patience or Patience(), clock)
        self._client = client

    @property
    def transport(self) -> Transport:
        """Give the way to the server."""
        return self._connection.transport

    def seat(
        self,
        *,
        user: str,
        addons: Sequence[str] | None = None,
        takeover: bool = False,
        proof: bool = False,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        wait_s: float = 0,
        callbacks: Callbacks | None = None,
    ) -> Seat:
        """Make a seat for `user`, to be taken with `async with`; call it inside the event loop.

        `addons` limits the add-ons asked for (default: all the user is named for).  `takeover` moves
        the user's seat here from another client.  `proof` asks for one, a JWT that others can verify
        until the lease's first expiry.  `labels` are for reports.  `request_id` makes the acquire
        idempotent and is random by default; all tries of one acquire share it.  `wait_s` waits in line
        for so long where every seat is taken; `callbacks.on_waiting` and `Seat.standing` tell how it goes.

        Raises `ValueError` for a `wait_s` that is no time.
        """
        wait_ms = wait_ms_of(wait_s)
        wish = wire.Acquire(
            user=user,
            client=self._client or client_id(),
            request_id=request_id or new_request_id(),
            addons=addons,
            takeover=takeover,
            proof=proof,
            labels=labels or {},
        )
        renamed = None if request_id else new_request_id
        line = Line(wait_ms, self._connection.ttl_ms, renamed) if wait_ms else None
        return Seat(self._connection, wish, callbacks or Callbacks(), line)

    async def __aenter__(self) -> SeatClient:  # noqa: PYI034 - typing.Self is younger than our oldest Python
        await self._connection.join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.leave()
