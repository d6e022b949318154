"""The seat plane without the web: seatd's own service, batcher and scripts on a store, and no account plane behind it.

Decides how operations come by: the service makes them, the batcher sends them, and what was sent is noted, so that a
measurement sends the very same again.  Nothing here knows how an operation is laid out.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import redis

from seatd.model import KeyGrant, Policy, Refusal, Scope, Tariff
from seatd.seats.batch import Batcher, Told
from seatd.seats.layout import Operation
from seatd.seats.model import Acquire, Caller, Lease
from seatd.seats.receipts import Keyring
from seatd.seats.service import Seats
from seatd.seats.store import Answer, Store, StoreOptions, connect

KEY = hashlib.sha256(b"bench").hexdigest()
RING = Keyring.of("bench", {"bench": b"b" * 32})
TTL_MS = 3_600_000
AT_ONCE = 256
BATCH = 256
TRIES = 50


def policy(tenant: str, cap: int) -> Policy:
    """Make a Team tenant's policy."""
    keys = {KEY: KeyGrant("k1", Scope.CLIENT)}
    return Policy(tenant=tenant, version=1, tariff=Tariff.TEAM, cap=cap, ttl_ms=TTL_MS, keys=keys)


class NotingBatcher(Batcher):
    """The batcher, which also notes what was sent of one verb."""

    noted = ""
    operations: list[Operation]

    def note(self, verb: str) -> list[Operation]:
        """Begin to note the operations of a verb."""
        self.noted, self.operations = verb, []
        return self.operations

    def offer(
        self, verb: str, operation: Operation, told: Told, future: asyncio.Future[Answer] | None = None
    ) -> None:
        """Send an operation, and note it."""
        if verb == self.noted:
            self.operations.append(operation)
        super().offer(verb, operation, told, future)


class Plane:
    """Seats over a store: `store` for calls of one's own, `batcher` for what the service sends."""

    def __init__(self, seats: Seats, batcher: NotingBatcher, store: Store) -> None:
        self.seats = seats
        self.batcher = batcher
        self.store = store

    async def acquire(self, people: Iterable[tuple[str, str]], request: str = "") -> list[Lease]:
        """Seat people (tenant, user), many at once; ids of 16 characters."""
        wanted = [
            (
                Caller(tenant, KEY),
                Acquire(user, f"pc{user[2:]}", request_id=request and f"{request}{user[1:]}"),
            )
            for tenant, user in people
        ]
        found: list[Lease] = []
        for first in range(0, len(wanted), AT_ONCE):
            lot = wanted[first : first + AT_ONCE]
            found += await asyncio.gather(*(self._seated(*each) for each in lot))
            self.batcher.unrecorded = type(self.batcher.unrecorded)()  # nobody records here
        return found

    async def _seated(self, caller: Caller, wanted: Acquire) -> Lease:
        for _ in range(TRIES):
            try:
                return await self.seats.acquire(caller, wanted)
            except Refusal as refusal:
                if refusal.code != "busy":
                    raise
                await asyncio.sleep(0.2)
        raise TimeoutError("the store is too busy to seat anybody")

    async def fill(self, tenant: str, first: int, count: int) -> None:
        """Seat so many more users of a tenant, from a number on, by the operation that the service makes for one."""
        operations = self.batcher.note("acquire")
        [lease] = await self.acquire([(tenant, "us-first")])
        self.batcher.note("")
        [template] = operations
        ids = {lease.user: "fu", lease.client: "fc", lease.lease: "f" * 10}
        for begin in range(first, first + count, BATCH):
            lot = [
                tuple(
                    f"{ids[part]}{number:014}" if isinstance(part, str) and part in ids else part
                    for part in template
                )
                for number in range(begin, min(begin + BATCH, first + count))
            ]
            (outcome,) = await self.store.run(0, [("acquire", lot)])
            if isinstance(outcome, Exception):
                raise outcome
            if refused := [answer for answer in outcome if answer[0] != "granted"]:
                raise RuntimeError(f"a seat could not be taken: {refused[0]}")

    async def renewals(self, leases: list[Lease]) -> list[Operation]:
        """Renew each lease once, and give the operations that did it."""
        operations = self.batcher.note("renew")
        for first in range(0, len(leases), AT_ONCE):
            lot = leases[first : first + AT_ONCE]
            await asyncio.gather(
                *(self.seats.renew(Caller(lease.tenant, KEY), lease.lease, lease.receipt) for lease in lot)
            )
        self.batcher.note("")
        return operations

    def drop_events(self, client: redis.Redis) -> None:
        """Drop the events that wait, as if they had been recorded."""
        meta, stream, _ = self.store.partition_keys(0)
        client.xtrim(stream, maxlen=0)
        client.hset(meta, "recorded", client.hget(meta, "added"))


@asynccontextmanager
async def plane(url: str, caps: dict[str, int]) -> AsyncIterator[Plane]:
    """Open a seat plane on an empty store, for Team tenants with these caps."""
    options = StoreOptions(timeout_ms=20_000)
    store = Store(connect(url, options), options)
    epoch = 1

    async def project(tenant: str) -> bool:
        if tenant in caps:
            await seats.put_policy(policy(tenant, caps[tenant]))
        return tenant in caps

    async def open_epoch(partition: int, _: int) -> None:
        await store.open_epoch(partition, (await store.look(partition)).epoch, epoch)

    async def bury(*_: object) -> int:
        return epoch

    async with NotingBatcher(Store(connect(url, options), options), 0) as batcher:
        seats = Seats(
            store,
            [batcher],
            RING,
            project=project,
            open_epoch=open_epoch,
            bury=bury,
        )
        for tenant in caps:
            await project(tenant)
        yield Plane(seats, batcher, store)
    await store.close()
