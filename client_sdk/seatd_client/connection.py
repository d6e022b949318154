"""What the seats of one client share: the way to the server, and how it is opened and closed.

Open while anybody uses it.  What the server says unasked is told to all who use it; each knows what is
meant for it.
"""

from __future__ import annotations

from seatd_client.frames import Push
from seatd_client.lease import Patience
from seatd_client.transport import Ear, Transport
from seatd_client.waiting import Clock


class Connection:
    """A transport and its users; `ttl_ms` is how long the leases of this tenant lasted last, once known."""

    def __init__(self, transport: Transport, patience: Patience, clock: Clock) -> None:
        """Start closed, with nobody."""
        self.transport = transport
        self.patience = patience
        self.clock = clock
        self.ttl_ms: int | None = None
        self._users = 0
        self._ears: dict[Ear, None] = {}
        transport.hear(self._heard)

    async def join(self, ear: Ear | None = None) -> None:
        """Open for one more user; its `ear` hears from now on what the server says unasked."""
        self._users += 1
        if ear is not None:
            self._ears[ear] = None
        await self.transport.open()

    async def leave(self, ear: Ear | None = None) -> None:
        """Close, if this was the last user."""
        self._users -= 1
        if ear is not None:
            self._ears.pop(ear, None)
        if self._users == 0:
            await self.transport.close()

    def _heard(self, push: Push) -> None:
        for ear in tuple(self._ears):
            ear(push)
