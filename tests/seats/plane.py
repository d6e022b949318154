"""A seat plane put together for a test: real store, real batcher, hooks that count how often they are asked."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from seatd.model import KeyGrant, Policy, Scope, Tariff
from seatd.seats.batch import Batcher
from seatd.seats.layout import Operation
from seatd.seats.model import Acquire, Caller, Lease
from seatd.seats.receipts import Keyring
from seatd.seats.service import Seats
from seatd.seats.store import Outcome, Store, StoreOptions, connect
from seatd.seats.upkeep import Upkeep
from tests.valkey import ValkeyServer

KEY = hashlib.sha256(b"a key").hexdigest()
RING = Keyring(b"abcd", {b"abcd": b"x" * 32})


def policy(tenant: str = "acme", cap: int = 2, **changes: Any) -> Policy:
    """Make a Team tenant's policy; `changes` are fields of `Policy`."""
    fields: dict[str, Any] = {"version": 1, "tariff": Tariff.TEAM, "ttl_ms": 2_000}
    fields["keys"] = {KEY: KeyGrant("k1", Scope.CLIENT)}
    return Policy(**{**fields, "tenant": tenant, "cap": cap, **changes})


class WatchedStore(Store):
    """The real store, which also notes the round trips that were made."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.trips: list[list[tuple[str, int]]] = []
        self.under_way = self.most_under_way = 0

    async def run(self, partition: int, calls: Sequence[tuple[str, Sequence[Operation]]]) -> list[Outcome]:
        self.trips.append([(verb, len(operations)) for verb, operations in calls])
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await super().run(partition, calls)
        finally:
            self.under_way -= 1


@dataclass
class Plane:
    """A seat plane, its parts, and what its hooks were asked."""

    seats: Seats
    upkeep: Upkeep
    batcher: Batcher
    store: Store
    watched: WatchedStore
    accounts: dict[str, Policy]
    projected: list[str] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)
    buries: bool = True
    epoch: int = 1

    async def acquire(self, user: str, client: str = "pc1", tenant: str = "acme", **wanted: Any) -> Lease:
        """Acquire with the tenant's key."""
        return await self.seats.acquire(Caller(tenant, KEY), Acquire(user, client, **wanted))

    async def renew(self, lease: Lease) -> Lease:
        """Renew with the lease's own receipt."""
        return await self.seats.renew(Caller(lease.tenant, KEY), lease.lease, lease.receipt)

    async def release(self, lease: Lease) -> bool:
        """Release with the lease's own receipt."""
        return await self.seats.release(Caller(lease.tenant, KEY), lease.lease, lease.receipt)


async def nothing_committed(_partition: int) -> tuple[int, int]:
    return 0, 0


@contextlib.asynccontextmanager
async def plane(server: ValkeyServer, *accounts: Policy, **options: Any) -> AsyncIterator[Plane]:
    """Open a seat plane whose account plane knows `accounts`; `options` are fields of `StoreOptions`."""
    chosen = StoreOptions(**options)
    reads = Store(connect(server.url, chosen), chosen)
    watched = WatchedStore(connect(server.url, chosen), chosen)

    async def project(tenant: str) -> bool:
        made.projected.append(tenant)
        if tenant not in made.accounts:
            return False
        await made.seats.put_policy(made.accounts[tenant])
        return True

    async def open_epoch(partition: int, stepped: int) -> None:
        made.opened.append(partition)
        seen = (await reads.look(partition)).epoch
        made.epoch = (await reads.open_epoch(partition, seen, 1 + bool(stepped))).epoch

    async def bury(*_: object) -> int:
        return made.epoch if made.buries else 0

    async with Batcher(watched, 0) as batcher:
        seats = Seats(
            reads,
            [batcher],
            RING,
            project=project,
            open_epoch=open_epoch,
            bury=bury,
        )
        upkeep = Upkeep(seats, reads, [batcher], nothing_committed)
        made = Plane(
            seats, upkeep, batcher, reads, watched, {account.tenant: account for account in accounts}
        )
        yield made
    await reads.close()
