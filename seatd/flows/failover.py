"""After a failover: whoever still takes itself for the primary is told that its epoch is over.

An old primary that was paused or cut off goes on answering whoever is still connected to it, until sentinels make a
replica of it: it knows nothing of what was released or revoked at the new one since.  So for as long as it may write, each
seatd closes the earlier epoch on every node that it can reach, beside the path of any request.  A closed node answers no
operation, and who asks it finds the new primary.  Who is still connected to a node that sentinels no longer name leaves it.
"""

import asyncio
import time
from collections.abc import Collection, Iterable
from typing import Final

from redis.exceptions import RedisError

from seatd.seats.primary import Place, Watchers
from seatd.seats.store import Store, StoreAwayError, StoreOptions
from seatd.telemetry import log

LOOK_EVERY_S: Final = 0.5
LONGER_MS: Final = 2_000
NODES_MAX: Final = 16


async def follow_for_ever(watchers: Watchers, stores: Collection[Store]) -> None:
    """Have every connection of a process made anew once sentinels name another primary, until cancelled.

    Who only reads would not notice, and an old primary that cannot be told to step down keeps its connections.
    """
    known: Place | None = None
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            place = await watchers.primary()
        except (RedisError, OSError) as error:
            log.debug("no primary", error=str(error))
            continue
        if place != known:
            log.info("primary", node=f"{place[0]}:{place[1]}")
            known = place
            for store in stores:
                store.doubt()


class Failovers:
    """Notices new epochs of a store that sentinels watch, and closes the earlier ones elsewhere."""

    def __init__(
        self, store: Store, watchers: Watchers, options: StoreOptions, partitions: Iterable[int]
    ) -> None:
        self._store = store
        self._watchers = watchers
        self._options = options
        self._epochs = dict.fromkeys(partitions, 0)
        self._until: dict[int, float] = {}

    async def close_earlier_for_ever(self) -> None:
        """Close earlier epochs on other nodes while those may still write, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                recent = await self._recent()
                if recent:
                    await self._close_everywhere(recent)
            except (StoreAwayError, RedisError, OSError, TimeoutError) as error:
                log.debug("other nodes not looked at", error=str(error))

    async def _recent(self) -> dict[int, int]:
        """Tell which epochs are new, by partition."""
        now = time.monotonic()
        for partition, before in self._epochs.items():
            state = await self._store.look(partition)
            if state.known and state.epoch != before:
                await self._check_w()
                self._epochs[partition] = state.epoch
                self._until[partition] = now + (self._options.w_ms + LONGER_MS) / 1000
        return {partition: self._epochs[partition] for partition, until in self._until.items() if until > now}

    async def _check_w(self) -> None:
        """Warn where the store lets an old primary write for longer than seatd reckons with."""
        try:
            alone_ms = await self._store.longest_alone_ms()
        except StoreAwayError as error:  # CONFIG is not for everybody; the rest goes on without
            log.info("min-replicas-to-write cannot be read", error=str(error))
            return
        if alone_ms is None:
            log.warning("min-replicas-to-write is not set: an old primary may sell a seat again")
        elif alone_ms > self._options.w_ms:
            log.warning("an old primary may write for longer than --w-ms", at_most_ms=alone_ms)

    async def _close_everywhere(self, epochs: dict[int, int]) -> None:
        nodes = sorted(await self._watchers.nodes())[:NODES_MAX]
        await asyncio.gather(*(self._close(node, epochs) for node in nodes))

    async def _close(self, node: Place, epochs: dict[int, int]) -> None:
        store = Store(self._watchers.connection_to(node), self._options)
        try:
            for partition, epoch in epochs.items():
                if await store.close_epoch(partition, epoch):
                    log.warning("earlier epoch closed", node=f"{node[0]}:{node[1]}", before=epoch)
        except (
            StoreAwayError
        ) as error:  # it is gone, or a replica, or has nobody to replicate to: it writes nothing
            log.debug("node not closed", node=f"{node[0]}:{node[1]}", error=str(error))
        finally:
            await store.close()
