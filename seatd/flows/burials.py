"""Write tombstones before an end takes effect: many releases, one transaction.

A release waits for its tombstone, and for no longer than a moment: where SQL is slow or away the release goes on
without, and its seat is free only when nobody can come back with the receipt.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from seatd.accounts.service import Accounts
from seatd.accounts.tombstones import Burial
from seatd.model import Refusal
from seatd.telemetry import log

WAIT_S: Final = 0.4
AWAY_S: Final = 1.0
BATCH_MAX: Final = 500
WAITING_MAX: Final = 20_000
TIDY_EVERY_S: Final = 60.0


class Burials:
    """Gathers burials while a transaction is under way, as the batcher does with operations."""

    def __init__(self, accounts: Accounts, partition_of: Callable[[str], int], margin_ms: int) -> None:
        """Take `margin_ms`, what is waited beyond a longer ttl before the longest one falls."""
        self._partition_of = partition_of
        self._accounts = accounts
        self._margin_ms = margin_ms
        self._waiting: list[tuple[Burial, asyncio.Future[int]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._away_until = 0.0
        self._in_time: deque[tuple[float, asyncio.Future[int]]] = deque()
        self._watching = False

    def bury(self, tenant: str, user: str, start_ms: int, reason: str) -> asyncio.Future[int]:
        """Write a tombstone; gives the epoch in which it was committed, 0 where that does not come about in time.

        No later epoch had been begun then: whoever reads a tenant's policy for one finds the tombstone.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        if time.monotonic() < self._away_until or len(self._waiting) >= WAITING_MAX:
            done.set_result(0)
            return done
        self._waiting.append((Burial(tenant, user, start_ms, reason), done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="tombstones")
        self._in_time.append((loop.time() + WAIT_S, done))
        if not self._watching:
            self._watch(loop)
        return done

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let nobody wait too long: one timer for all of them, which is cheaper than one each."""
        now_s = loop.time()
        while self._in_time and (self._in_time[0][1].done() or self._in_time[0][0] <= now_s):
            _, done = self._in_time.popleft()
            if not done.done():
                done.set_result(0)
        self._watching = bool(self._in_time)
        if self._watching:
            loop.call_at(self._in_time[0][0], self._watch, loop)

    async def _write(self) -> None:
        while self._waiting:
            lot, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            epochs: Mapping[int, int] = {}
            try:
                epochs = await self._accounts.bury([burial for burial, _ in lot])
            except Refusal as refusal:
                log.warning("tombstones not written", code=refusal.code, count=len(lot))
                self._away_until = time.monotonic() + AWAY_S
            except Exception:  # noqa: BLE001 - who waits gets an answer
                log.exception("tombstones failed")
            for burial, done in lot:
                if not done.done():
                    done.set_result(epochs.get(self._partition_of(burial.tenant), 0))

    async def tidy_for_ever(self) -> None:
        """Drop what no longer matters now and then, until cancelled."""
        while True:
            await asyncio.sleep(TIDY_EVERY_S)
            try:
                await self._accounts.tidy(self._margin_ms)
            except Refusal as refusal:
                log.debug("tombstones not tidied", code=refusal.code)
