"""How requests reach a seatd: the interface that a seat needs, and HTTP behind it.

Decides about connections only.  Transports do not time out and do not try again: the seat bounds
every call and knows what is worth repeating.  A transport over another kind of connection takes the
place of `HttpTransport` by having the same methods; `preferring` is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import aiohttp
from yarl import URL

from seatd_client import wire
from seatd_client.errors import ConnectionFailed, InvalidReply, Refused, Transient
from seatd_client.frames import Push

Ear = Callable[[Push], None]
"""Hears what the server says unasked."""


class Transport(Protocol):
    """What a seat asks of a connection; every call raises `SeatError`s and may be cancelled."""

    async def open(self) -> None:
        """Make ready; called again after `close`."""

    async def close(self) -> None:
        """Give back what `open` took."""

    async def features(self) -> frozenset[str]:
        """Tell what the server can, as it lists it."""

    def hear(self, ear: Ear) -> None:
        """Tell `ear` from now on what the server says unasked, where it can say such things."""

    async def acquire(self, wish: wire.Acquire) -> wire.Grant:
        """Ask for a seat."""

    async def leave(self, wish: wire.Acquire) -> bool:
        """Give up an acquire that waits in line; returns whether it is going to be answered at once.

        Where it is not, cancelling the acquire tells the server.
        """

    async def renew(self, lease: str, receipt: str) -> wire.Renewal:
        """Ask for more time."""

    async def release(self, lease: str, receipt: str) -> None:
        """Give a seat back."""

    async def addon(self, lease: str, product: str) -> None:
        """Ask for an add-on; raises `AddonNotNamed` where the user is not named for it."""


class HttpTransport:
    """The client routes over HTTP, on one session of aiohttp."""

    def __init__(self, url: str, writer: wire.Writer, session: aiohttp.ClientSession | None = None) -> None:
        """Speak to the seatd at `url`; a `session` that is given is used and never closed.

        Raises `ValueError` where `url` is no http or https address.
        """
        parsed = URL(url)
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise ValueError(f"not the address of a server: {url!r}")
        self.url = str(parsed.with_query(None).with_fragment(None)).rstrip("/")
        self.writer = writer
        self._given = session
        self._session: aiohttp.ClientSession | None = None
        self._features: frozenset[str] | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """Give the session; raises `ConnectionFailed` while closed."""
        if self._session is None:
            raise ConnectionFailed("the client is closed")
        return self._session

    async def open(self) -> None:
        """Take the session given, or make one."""
        if self._session is None:
            self._session = self._given or aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None), cookie_jar=aiohttp.DummyCookieJar()
            )

    async def close(self) -> None:
        """Close the session, unless it was given."""
        session = self.detach()
        if session is not None:
            await session.close()

    def detach(self) -> aiohttp.ClientSession | None:
        """Forget the session, so that who opens again gets another; returns it where it is to be closed."""
        session, self._session, self._features = self._session, None, None
        return session if session is not self._given else None

    async def features(self, *, fresh: bool = False) -> frozenset[str]:
        """GET what the server can, once while open; a server that does not say can nothing of it."""
        if self._features is None or fresh:
            try:
                self._features = wire.read_about(await self._send(self.writer.about()))
            except Transient:
                raise
            except Refused:
                self._features = frozenset()
        return self._features

    def hear(self, ear: Ear) -> None:
        """Do nothing: over HTTP a server only answers."""

    async def acquire(self, wish: wire.Acquire) -> wire.Grant:
        """POST an acquire."""
        return wire.read_grant(await self._send(self.writer.acquire(wish)), wish)

    async def leave(self, wish: wire.Acquire) -> bool:  # noqa: ARG002 - of the interface
        """Return False: a connection that closes is how a server hears of it."""
        return False

    async def renew(self, lease: str, receipt: str) -> wire.Renewal:
        """POST a renewal."""
        return wire.read_renewal(await self._send(self.writer.renew(lease, receipt)), lease)

    async def release(self, lease: str, receipt: str) -> None:
        """DELETE the lease."""
        wire.read_release(await self._send(self.writer.release(lease, receipt)))

    async def addon(self, lease: str, product: str) -> None:
        """GET the add-on."""
        wire.read_addon(await self._send(self.writer.addon(lease, product)), product)

    async def _send(self, request: wire.Request) -> wire.Reply:
        session = self.session
        try:
            async with session.request(
                request.method,
                URL(self.url + request.path, encoded=True),
                headers=request.headers,
                data=request.body or None,
                allow_redirects=False,  # the key goes to the server that was named, and nowhere else
                timeout=aiohttp.ClientTimeout(total=None),
            ) as response:
                body = await _body(response)
                return wire.Reply(response.status, body, response.headers.get("Retry-After"))
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise ConnectionFailed(f"{type(error).__name__}: {error}") from error


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > wire.REPLY_BYTES_MAX:
            raise InvalidReply("the reply is too long")
    return bytes(body)
