"""The channel where there is one, HTTP otherwise and meanwhile.

Decides which way each request goes, and keeps one socket open for all seats of a client.  No seat waits
for a socket: until it is open, while it is in doubt and after it was lost, requests go over HTTP.  A
server reaches a lease only over the socket on which it was acquired or last renewed; so whenever a
socket has opened all seats are told to renew soon, as if the server had asked for it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from seatd_client import wire
from seatd_client.channel import FEATURE, ChannelLost
from seatd_client.errors import SeatError
from seatd_client.frames import Push
from seatd_client.redial import NoChannel, Pauses, Redial
from seatd_client.sockets import Socket, connect
from seatd_client.transport import Ear, HttpTransport
from seatd_client.waiting import Clock, sleep_until, within

DIAL_MS = 10_000
"""How long opening a socket may take."""

REBIND_MS = 5_000
"""Within what time the seats renew once over a socket that has opened."""

SETTLED_S = 0.2
"""After what time a seat granted over HTTP can be told to do so."""

FINISH_MS = 5_000
"""How long an old socket may go on to answer what was asked on it."""

CLOSE_S = 1.0


class PreferringTransport:
    """Both ways to a seatd; `http` is the one that always is there."""

    def __init__(self, http: HttpTransport, clock: Clock, pauses: Pauses | None = None) -> None:
        """Use `http`, and its session for the channel as well."""
        self._http = http
        self._clock = clock
        self._redial = Redial(random.Random(), pauses)  # noqa: S311 - spreads load, guards nothing
        self._ears: list[Ear] = []
        self._socket: Socket | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn: asyncio.Future[int] | None = None

    @property
    def channel_open(self) -> bool:
        """Tell whether requests go over a channel at the moment."""
        return self._usable() is not None

    async def open(self) -> None:
        """Make ready, and look for a channel from now on."""
        await self._http.open()
        if self._keeper is None:
            self._keeper = asyncio.ensure_future(self._keep())

    async def close(self) -> None:
        """Close the channel, then HTTP."""
        keeper, self._keeper = self._keeper, None
        socket, self._socket = self._socket, None
        session = self._http.detach()  # all of it at once: somebody may open again while this waits
        if socket is not None:
            self._begin(socket.close())
        tasks, self._tasks = self._tasks, set()
        try:
            if keeper is not None:
                keeper.cancel()
                await asyncio.wait({keeper})
            if tasks:
                await asyncio.wait(tasks, timeout=CLOSE_S)
        finally:
            for task in tasks:
                task.cancel()
            if session is not None:
                await session.close()

    async def features(self) -> frozenset[str]:
        """Tell what the server can."""
        return await self._http.features()

    def hear(self, ear: Ear) -> None:
        """Tell `ear` from now on what the server says unasked."""
        self._ears.append(ear)

    async def acquire(self, wish: wire.Acquire) -> wire.Grant:
        """Ask for a seat; a wait whose socket is lost is asked again by the seat, in its own time."""
        socket = self._usable()
        if socket is not None:
            try:
                return await socket.acquire(wish)
            except ChannelLost:
                if wish.wait_ms is not None:
                    raise
        grant = await self._http.acquire(wish)
        if self._socket is not None:
            bind = Push("renew", lease=grant.lease, within_ms=REBIND_MS)
            asyncio.get_running_loop().call_later(SETTLED_S, self._tell, bind)
        return grant

    async def leave(self, wish: wire.Acquire) -> bool:
        """Give up an acquire that waits in line; returns whether it is going to be answered at once."""
        return self._socket is not None and await self._socket.leave(wish)

    async def renew(self, lease: str, receipt: str) -> wire.Renewal:
        """Ask for more time."""
        socket = self._usable()
        if socket is not None:
            try:
                return await socket.renew(lease, receipt)
            except ChannelLost:
                pass  # the same request again does no harm, and HTTP may be faster than a new socket
        return await self._http.renew(lease, receipt)

    async def release(self, lease: str, receipt: str) -> None:
        """Give a seat back."""
        socket = self._usable()
        if socket is not None:
            try:
                return await socket.release(lease, receipt)
            except ChannelLost:
                pass  # as above
        return await self._http.release(lease, receipt)

    async def addon(self, lease: str, product: str) -> None:
        """Ask for an add-on: over HTTP, the channel has no such request."""
        await self._http.addon(lease, product)

    # Keeping a socket.

    def _usable(self) -> Socket | None:
        return self._socket if self._socket is not None and self._socket.usable else None

    async def _keep(self) -> None:
        pause_ms = self._redial.first_ms()
        while True:
            await sleep_until(self._clock, self._clock() + pause_ms)
            try:
                socket = await within(self._clock, self._clock() + DIAL_MS, self._dial())
            except SeatError as error:
                pause_ms = self._redial.failed_ms(error)
                continue
            pause_ms = await self._turned(socket)

    async def _dial(self) -> Socket:
        if FEATURE not in await self._http.features(fresh=True):
            raise NoChannel("the server has no channel")
        return await connect(self._http.session, self._http.url, self._http.writer.channel(), self._clock)

    async def _turned(self, socket: Socket) -> int:
        """Use a socket until another is due; returns after what pause."""
        self._redial.opened(self._clock())
        self._turn = asyncio.get_running_loop().create_future()
        before, self._socket = self._socket, socket
        if before is not None:
            self._begin(before.finish(FINISH_MS))
        self._begin(self._run(socket))
        self._tell(Push("renew", within_ms=REBIND_MS))
        return await self._turn

    async def _run(self, socket: Socket) -> None:
        def ear(push: Push) -> None:
            if push.kind == "drain":
                self._drain(socket, push.within_ms or 0)
            else:
                self._tell(push)

        try:
            await socket.run(ear)
        finally:
            if self._socket is socket:
                self._socket = None
                self._turn_over(
                    self._redial.failed_ms(NoChannel("the key was refused"))
                    if socket.key_refused
                    else self._redial.lost_ms(self._clock())
                )
            await socket.close()

    def _drain(self, socket: Socket, within_ms: int) -> None:
        if socket is self._socket:
            self._turn_over(self._redial.drained_ms(within_ms))

    def _turn_over(self, pause_ms: int) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(pause_ms)

    def _tell(self, push: Push) -> None:
        for ear in self._ears:
            ear(push)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a socket that stumbles is a socket that was lost
