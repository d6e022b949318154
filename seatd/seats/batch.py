"""Many callers, one script call a partition: the operations of one tick travel together.

Handlers never touch the store.  They hand an operation to a batcher and await its future; while one
call is in flight the next batch gathers, without a timer, and takes along what lies in the sockets by then.  Renewals and
releases go ahead of acquires.
Only the flusher touches the connection, so a cancelled handler cannot corrupt it.

Queues are bounded by age: nobody is served who has given up.  Acquires are refused long before renewals, releases never;
how many of them may wait follows how long they had to, so that most who are refused are refused at once, which is cheap.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, Self

from seatd.model import Refusal
from seatd.seats.layout import Operation
from seatd.seats.load import retry_after_ms
from seatd.seats.store import Answer, Outcome, Store, StoreAwayError, UnopenedError
from seatd.seats.unrecorded import Unrecorded
from seatd.telemetry import STORE_BATCH, STORE_CALLS, log

ORDER: Final = ("renew", "release", "revoke", "project", "readd", "inspect", "sweep", "line", "acquire")
BATCH_MAX: Final = 256
QUEUE_MAX: Final = 20_000
RETRY_AFTER_MS: Final = 1_000
AGE_MAX_S: Final = {"acquire": 0.5, "renew": 5.0}
"""How long an operation may have waited when its turn comes; others as long as they must."""
ACQUIRES_MIN: Final = 2 * BATCH_MAX
TURNS_MAX: Final = 4
"""Turns of the event loop for which a batch gathers what has come already."""

Told = Callable[[Answer | Exception], None]
"""Told, once, the answer to an operation, or why there is none."""


class Entry(NamedTuple):
    """An operation that waits, who is told, since when; and the future of whoever may give up."""

    operation: Operation
    told: Told
    since_s: float
    future: asyncio.Future[Answer] | None

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.future is not None and self.future.cancelled()


def store_unavailable() -> Refusal:
    """Make the refusal of everything that needs a store which is away."""
    return Refusal("store_unavailable", retry_after_ms=retry_after_ms(RETRY_AFTER_MS))


def _busy() -> Refusal:
    detail = "Too many operations wait for the store."
    return Refusal("busy", detail, retry_after_ms=retry_after_ms(RETRY_AFTER_MS))


class Batcher:
    """Gathers the operations of one partition and sends them; start and stop it with `async with`."""

    def __init__(self, store: Store, partition: int) -> None:
        self._store = store
        self.partition = partition
        self.unrecorded = Unrecorded()
        self._queues: dict[str, deque[Entry]] = {verb: deque() for verb in ORDER}
        self._waiting = 0
        self._acquires_max = QUEUE_MAX
        self._wake = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None
        self._closing = False
        self._now_s: Callable[[], float] = time.monotonic

    async def __aenter__(self) -> Self:
        """Start the flusher."""
        self._now_s = asyncio.get_running_loop().time
        self._flusher = asyncio.create_task(self._flush_for_ever(), name=f"flush p{self.partition}")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Send what waits, then stop."""
        self._closing = True
        self._wake.set()
        if self._flusher is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._flusher

    def doubt(self) -> None:
        """Take a new connection for the next batch: the node may not be the primary any more."""
        self._store.doubt()

    async def submit(self, verb: str, operation: Operation) -> Answer:
        """Send an operation with the next batch and await its answer.

        Raises `Refusal` `store_unavailable` where the store is away (the operation may have run) and
        `busy` where too much waits, or waits too long; `UnopenedError` where the partition has no epoch (nothing ran).
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.offer(verb, operation, partial(_settle_future, future), future)
        return await future

    def offer(
        self, verb: str, operation: Operation, told: Told, future: asyncio.Future[Answer] | None = None
    ) -> None:
        """Send an operation with the next batch; `told` is called with what `submit` returns or raises.

        Raises what is known at once.  Nothing is sent for whoever has cancelled their `future` by then.
        """
        if self._closing:
            raise store_unavailable()
        now_s = self._now_s()
        if self._waiting >= QUEUE_MAX:
            self._make_room(verb)
        elif verb == "acquire" and (busy := self.crowded()):
            raise busy
        self._queues[verb].append(Entry(operation, told, now_s, future))
        self._waiting += 1
        if not self._wake.is_set():
            self._wake.set()

    def crowded(self) -> Refusal | None:
        """Give the refusal `busy` where an acquire would wait too long: those before it will not all be served either."""
        queue = self._queues["acquire"]
        if queue and (
            len(queue) >= self._acquires_max or self._now_s() - queue[0].since_s > AGE_MAX_S["acquire"]
        ):
            return _busy()
        return None

    def _follow(self, waited_s: float) -> None:
        """Let fewer acquires wait where they wait long, and more again where they do not."""
        if waited_s > AGE_MAX_S["acquire"] / 2:
            self._acquires_max = max(self._acquires_max * 3 // 4, ACQUIRES_MIN)
        elif self._acquires_max < QUEUE_MAX:
            self._acquires_max += BATCH_MAX // 4

    def _make_room(self, verb: str) -> None:
        """Refuse an acquire for whatever else comes; raises `Refusal` where there is none to refuse."""
        queue = self._queues["acquire"]
        if queue and verb != "acquire":
            self._waiting -= 1
            _tell(queue.popleft().told, _busy())
        elif verb != "release":
            raise _busy()

    def _age_s(self, verb: str, now_s: float) -> float:
        queue = self._queues[verb]
        return now_s - queue[0].since_s if queue else 0.0

    @property
    def waited_s(self) -> float:
        """Tell how long the oldest operation that waits has waited."""
        now_s = self._now_s()
        return max(self._age_s(verb, now_s) for verb in ORDER)

    async def _flush_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._gather()
                await self._flush_once()
            if self._closing:
                return

    async def _gather(self) -> None:
        """Let what has come already be read, as long as that brings more: a fuller batch costs each operation less.

        These are turns of the event loop, not waits: where nothing has come it is one.
        """
        for _ in range(TURNS_MAX):
            before = self._waiting
            await asyncio.sleep(0)
            if self._waiting <= before:
                return

    def _take(self) -> list[tuple[str, list[Entry]]]:
        calls = []
        room = BATCH_MAX
        now_s = self._now_s()
        for verb in ORDER:
            queue = self._queues[verb]
            taken = []
            oldest_s = now_s - AGE_MAX_S.get(verb, now_s)
            while queue and room:
                entry = queue.popleft()
                self._waiting -= 1
                if entry.given_up:  # and it has not been sent
                    continue
                if entry.since_s < oldest_s:
                    _tell(entry.told, _busy())
                    continue
                taken.append(entry)
                room -= 1
            if taken:
                calls.append((verb, taken))
                if verb == "acquire":
                    self._follow(now_s - taken[0].since_s)
        return calls

    async def _flush_once(self) -> None:
        calls = self._take()
        if not calls:
            return
        try:
            outcomes = await self._store.run(
                self.partition, [(verb, [entry.operation for entry in taken]) for verb, taken in calls]
            )
        except StoreAwayError as error:
            self._note_failure(error)
            self._fail(calls, store_unavailable())
            self._fail_waiting()
            return
        except Exception:  # noqa: BLE001 - whatever it was, the callers get an answer and the flusher lives
            log.exception("batch failed", partition=self.partition)
            self._fail(calls, Refusal("internal"))
            return
        STORE_CALLS.labels("ok").inc()
        for (verb, taken), outcome in zip(calls, outcomes, strict=True):
            STORE_BATCH.observe(len(taken))
            self._settle(verb, taken, outcome)

    def _settle(self, verb: str, taken: list[Entry], outcome: Outcome) -> None:
        # Each script for itself: an acquire that failed takes no renewal with it.
        if isinstance(outcome, StoreAwayError):
            self._note_failure(outcome)
            self._fail([(verb, taken)], store_unavailable())
        elif isinstance(outcome, UnopenedError):
            self._fail([(verb, taken)], outcome)
        else:
            self.unrecorded.note(outcome)
            for entry, answer in zip(taken, outcome, strict=True):
                _tell(entry.told, answer)

    def _note_failure(self, error: StoreAwayError) -> None:
        log.warning("store away", partition=self.partition, error=str(error))
        STORE_CALLS.labels("failed").inc()

    def _fail(self, calls: list[tuple[str, list[Entry]]], error: Exception) -> None:
        for _, taken in calls:
            for entry in taken:
                _tell(entry.told, error)

    def _fail_waiting(self) -> None:
        # Who queued behind a call that timed out has waited long enough: the answer is due in a second.
        waiting = [entry for queue in self._queues.values() for entry in queue]
        for queue in self._queues.values():  # before anybody is told: who is may ask again at once
            queue.clear()
        self._waiting = 0
        self._fail([("", waiting)], store_unavailable())


def _tell(told: Told, answer: Answer | Exception) -> None:
    try:
        told(answer)
    except Exception:  # noqa: BLE001 - whoever stumbles over its answer takes nobody else's along
        log.exception("answer not taken")


def _settle_future(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
