"""A seat plane of one tenant whose store can be lost, on a clock that the test moves (see world.py).

Losses are real: FLUSHALL, or all keys put back as they were some time ago.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from seatd.model import KeyGrant, Policy, Scope, Tariff, Tombstone
from seatd.seats.batch import Batcher
from seatd.seats.model import Acquire, Caller, Lease
from seatd.seats.receipts import Keyring
from seatd.seats.service import Seats
from seatd.seats.store import Store, connect
from tests.seats.world import STOPPED, T0
from tests.valkey import ValkeyServer

KEY = "ab" * 32
RING = Keyring.of("k", {"k": b"s" * 32})
TTL = 60_000
DELTA, Q = 2_000, 500
WINDOW = 60_600 + 2 * DELTA + Q
"""Lmax * (1 + rho) + 2 * delta + W + Q, with W = 0."""


class House:
    """A seat plane of one tenant whose store can be lost, and SQL as far as it matters to that."""

    def __init__(self, server: ValkeyServer) -> None:
        self.client = server.client()
        self.reads = Store(connect(server.url, STOPPED), STOPPED)
        self.seats: Seats
        self.batcher: Batcher
        self.epoch = 0
        self.buries = True
        self.tombstones: dict[str, Tombstone] = {}
        self.policy = Policy(
            tenant="acme",
            version=1,
            tariff=Tariff.TEAM,
            cap=2,
            ttl_ms=TTL,
            keys={KEY: KeyGrant("k1", Scope.CLIENT)},
        )
        self.at(T0)

    def at(self, now_ms: int) -> None:
        """Move the clock."""
        self.now = now_ms
        self.client.hset(self.reads.partition_keys(0)[0], "hwm", now_ms)

    def later(self, ms: int) -> None:
        self.at(max(self.now, int(self.client.hget(self.reads.partition_keys(0)[0], "hwm") or 0)) + ms)

    def change(self, **changes: Any) -> None:
        """Change the account, as SQL does; put it into force with `project`."""
        self.policy = replace(self.policy, version=self.policy.version + 1, **changes)

    async def project(self, tenant: str) -> bool:
        if tenant != "acme":
            return False
        learn_ttl_ms = max(TTL, self.policy.ttl_ms) if self.epoch > 1 else 0
        tombstones = tuple(self.tombstones.values())
        known = replace(self.policy, learn_ttl_ms=learn_ttl_ms, tombstones=tombstones, epoch=self.epoch)
        await self.seats.put_policy(known)
        return True

    async def open_epoch(self, partition: int, stepped: int) -> None:
        seen = await self.reads.look(partition)
        self.epoch += 1
        await self.reads.open_epoch(partition, seen.epoch, self.epoch)

    async def bury(self, _tenant: str, user: str, start_ms: int, reason: str) -> int:
        buried = self.tombstones.get(user)
        if self.buries and (buried is None or buried.start_ms < start_ms):  # the latest start holds
            self.tombstones[user] = Tombstone(user, start_ms, reason)
        return self.epoch if self.buries else 0

    def lose(self) -> None:
        """The store comes back empty."""
        self.client.flushall()
        self.at(self.now)

    def copy(self) -> dict[bytes, bytes]:
        return {key: self.client.dump(key) or b"" for key in self.client.scan_iter()}

    def roll_back(self, copy: dict[bytes, bytes]) -> None:
        """The store comes back as it was when the copy was made, in another run."""
        self.client.flushall()
        for key, value in copy.items():
            self.client.restore(key, 0, value)
        self.client.hset(self.reads.partition_keys(0)[0], "id", "another run")
        self.at(self.now)

    async def acquire(self, user: str, client: str = "desk", **wanted: Any) -> Lease:
        return await self.seats.acquire(Caller("acme", KEY), Acquire(user, client, **wanted))

    async def renew(self, lease: Lease) -> Lease:
        return await self.seats.renew(Caller("acme", KEY), lease.lease, lease.receipt)

    async def release(self, lease: Lease) -> bool:
        return await self.seats.release(Caller("acme", KEY), lease.lease, lease.receipt)


@contextlib.asynccontextmanager
async def house(server: ValkeyServer) -> AsyncIterator[House]:
    made = House(server)
    async with Batcher(Store(connect(server.url, STOPPED), STOPPED), 0) as batcher:
        made.batcher = batcher
        made.seats = Seats(
            made.reads,
            [batcher],
            RING,
            project=made.project,
            open_epoch=made.open_epoch,
            bury=made.bury,
        )
        yield made
    await made.reads.close()
