"""The store's own code in virtual time, and a batcher that sends each operation by itself, at once.

Only time is ours.  Before each call the clock's high-water mark is put where virtual time stands, and the scripts'
test-only offset puts TIME just below it: so a call sees virtual time to the millisecond, whatever the machine does.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from redis.asyncio.connection import AbstractConnection

from seatd.seats import resp
from seatd.seats.batch import Batcher
from seatd.seats.layout import Operation
from seatd.seats.store import Answers, Outcome, Store, StoreOptions, UnopenedError, connect
from tests.sim.operations import Answer
from tests.sim.rules import Times

BELOW_MS = 5_000  # how far TIME is put below virtual time: no call takes as long
DUMP = (
    "local all = {} for _, key in ipairs(redis.call('KEYS', '*')) do "
    "all[#all + 1] = key all[#all + 1] = redis.call('DUMP', key) end return all"
)


class NotRunError(Exception):
    """Nothing ran: no epoch is open here, or the clock went ahead in epoch `stepped`."""

    def __init__(self, stepped: int) -> None:
        self.stepped = stepped
        super().__init__()


class VirtualStore(Store):
    """The store's own code; each round trip first sets the clock, and at last reads what is known of the partition."""

    def __init__(self, url: str, times: Times) -> None:
        options = StoreOptions(
            q_ms=times.q_ms,
            delta_ms=times.delta_ms,
            w_ms=times.w_ms,
            timeout_ms=30_000,
            connect_timeout_ms=10_000,
        )
        super().__init__(connect(url, options), options)
        self.now = 0
        self.expected_ms = 0
        self.dumps = False
        self.meta: list[Any] = []
        self.dumped: list[bytes] = []

    def at(self, time_ms: int, hwm_ms: int, expected: tuple[int, int] | None) -> None:
        """Say what the clock shows, and which time (of which epoch) the caller expects there."""
        offset = time_ms - BELOW_MS - time.time_ns() // 1_000_000
        self.options = replace(self.options, clock_offset_ms=offset)
        self.now = max(time_ms, hwm_ms)
        self._last.clear()
        if expected:
            epoch, self.expected_ms = expected
            self._last[0] = (0, 0.0, epoch)
            if (
                time_ms - self.expected_ms > self.options.q_ms
            ):  # the scripts compare TIME itself, which is below
                self.expected_ms -= BELOW_MS

    def _expected_ms(self, partition: int) -> int:
        return self.expected_ms if self._last else 0

    def _note_time(self, partition: int, outcomes: Sequence[Outcome], sent_s: float) -> None:
        pass  # the simulated servers do, when the answer has reached them

    async def now_ms(self) -> int:
        return self.now

    async def _send(self, commands: Sequence[bytes]) -> list[Any]:
        meta = self.partition_keys(0)[0]
        after = [resp.command("HMGET", meta, "epoch", "seq", "hwm", "id")]
        after += [resp.command("EVAL", DUMP, 0)] if self.dumps else []
        replies = await super()._send([resp.command("HSET", meta, "hwm", self.now), *commands, *after])
        if self.dumps:
            self.dumped = replies.pop()
        self.meta = replies.pop()
        return replies[1:]


class OneByOne(Batcher):
    """Takes the batcher's place: an operation is a call of its own, at once."""

    def __init__(self, store: VirtualStore) -> None:
        super().__init__(store, 0)
        self.store = store
        self.raw: Answer = []
        self.added: list[Answers] = []

    async def submit(self, verb: str, operation: Operation) -> Answer:
        (outcome,) = await self.store.run(0, [(verb, [operation])])
        if isinstance(outcome, UnopenedError):
            raise NotRunError(outcome.stepped)
        if not isinstance(outcome, Answers):
            raise outcome
        assert outcome.now_ms == self.store.now, "the call did not run at its virtual instant"
        self.added.append(outcome)
        self.raw = list(outcome[0])
        return outcome[0]


@cache
def _nowhere() -> AbstractConnection:
    return connect("unix:///nowhere", StoreOptions())


class Clock(Store):
    """What one server expects of one node's clock, as the store's own code reckons it."""

    def __init__(self, times: Times) -> None:
        options = StoreOptions(q_ms=times.q_ms)
        super().__init__(_nowhere(), options)

    def note(self, outcome: Outcome, sent_ms: int) -> None:
        """Note an answer that has come."""
        self._note_time(0, [outcome], sent_ms / 1000)

    def expected(self) -> tuple[int, int] | None:
        """Tell which epoch and time are expected now, None where there is no idea."""
        return (self._last[0][2], self._expected_ms(0)) if self._last else None
