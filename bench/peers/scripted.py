"""Peer (b): the bare handler with one script call a request: seatd's own scripts, uncoalesced.

No key is checked at the door and no receipt is made.  A pool of connections, one call under way on each: what one writes
before thinking of batches.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator

from aiohttp import web

from bench.peers.bare import Work, make_app, run
from bench.plane import KEY, plane
from seatd.model import Refusal
from seatd.seats.layout import Operation
from seatd.seats.model import Acquire, Caller, Lease
from seatd.seats.store import Answer, Store, StoreOptions, connect

TENANT = "bench"
CONNECTIONS = 16
CALLER = Caller(TENANT, KEY)


class Calls:
    """Stands where the batcher stands: each operation is one script call, on a connection that is free."""

    def __init__(self, stores: list[Store]) -> None:
        self.partition = 0
        self._stores = deque(stores)
        self.noted: Operation | None = None

    async def submit(self, verb: str, operation: Operation) -> Answer:
        """Call the script of `verb` with this operation alone."""
        self.noted = operation
        store = self._stores[0]  # whoever is next; its own lock makes callers take turns
        self._stores.rotate(-1)
        (outcome,) = await store.run(0, [(verb, [operation])])
        if isinstance(outcome, Exception):
            raise outcome
        answer: Answer = outcome[0]
        return answer


async def _make() -> web.Application:
    url, cap = sys.argv[1], int(sys.argv[2])
    leases: dict[str, Lease] = {}
    renewals: dict[str, Operation] = {}
    options = StoreOptions(timeout_ms=20_000)
    calls = Calls([Store(connect(url, options), options) for _ in range(CONNECTIONS)])

    async def open_plane(app: web.Application) -> AsyncIterator[None]:
        async with plane(url, {TENANT: cap}) as ours:
            ours.seats._batchers[0] = calls  # type: ignore[call-overload]  # noqa: SLF001 - the peer's whole point
            app["seats"] = ours.seats
            yield

    async def acquire(lease: str, user: str, client: str) -> int:
        try:
            taken = await app["seats"].acquire(CALLER, Acquire(user, client))
        except Refusal as refusal:
            if refusal.code != "no_seat":
                raise
            return 0
        leases[lease] = taken
        return int(taken.expires_ms)

    async def renew(lease: str) -> int:
        # What a renewal sends is made once, so that what is measured afterwards is the call.
        if lease not in renewals:
            renewing = app["seats"].renew(CALLER, lease_of(lease).lease, lease_of(lease).receipt)
            task = asyncio.ensure_future(renewing)
            await asyncio.sleep(0)
            renewals[lease] = calls.noted or ()
            return int((await task).expires_ms)
        return int((await calls.submit("renew", renewals[lease]))[2])

    def lease_of(lease: str) -> Lease:
        return leases[lease]

    async def release(lease: str) -> None:
        taken = leases.pop(lease)
        await app["seats"].release(CALLER, taken.lease, taken.receipt)

    app = make_app(Work(acquire, renew, release), open_plane)
    return app


if __name__ == "__main__":
    run(_make)
