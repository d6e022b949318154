"""The recorder: usage events from the stream into the ledger, each once, none lost.

Decides the order that makes it so: read, then rows and the moved cursor in one SQL transaction, and only then
trim.  Dying between any two of these repeats work and changes nothing.  Because what is committed is
trimmed, the stream holds what is not yet recorded, and it is always read from its beginning: a store that came back
empty, whose stream ids begin anew, is read like any other.  What is new is told by epoch and number, never by a
stream id.  How rows are folded is not decided here.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.database import freezing
from seatd.database.engine import reading, writing
from seatd.model import Refusal, UsageEvent, UsageEvents
from seatd.telemetry import RECORDED, RECORDER_ERRORS, SEQ_GAPS, STREAM_BACKLOG, log
from seatd.usage import cursors
from seatd.usage.sequence import STREAM_START, Cursor, Progress, advance
from seatd.usage.writing import PersonsFor, write

BATCH: Final = 2_000


class Stream(Protocol):
    """What the recorder needs of the seat store; used from one task at a time."""

    async def events(self, partition: int, after: str, most: int) -> UsageEvents:
        """Read about `most` events after the stream id `after`, in order, and tell whether there may be more."""

    async def trim(self, partition: int, upto: UsageEvent) -> None:
        """Drop the events up to and including `upto`, the last that was read; none where another stream stands there now."""

    async def backlog(self, partition: int) -> int:
        """Count the events that wait."""


class Recorder:
    """Records the streams of some partitions.

    `away` is what the stream raises where the store is away; `clock` gives milliseconds since the UTC epoch.
    `waiting` is how many events were left in the streams when they were last looked at (None: not known).
    """

    def __init__(
        self,
        engine: AsyncEngine,
        stream: Stream,
        persons_for: PersonsFor,
        *,
        clock: Callable[[], int],
        partitions: Iterable[int] = (0,),
        away: tuple[type[Exception], ...] = (),
        batch: int = BATCH,
    ) -> None:
        self._engine = engine
        self._stream = stream
        self._persons_for = persons_for
        self._clock = clock
        self._partitions = tuple(partitions)
        self._away: tuple[type[Exception], ...] = (Refusal, *away)
        self._batch = batch
        self._cursors: dict[int, Cursor] = {}
        self._trouble = ""
        self._closing = asyncio.Event()
        self._turn = asyncio.Lock()
        self.waiting: int | None = None
        self._begun = 0
        self._whole = 0
        self._round_over = asyncio.Event()

    async def record_once(self, partition: int) -> int:
        """Record one batch; returns how many events it held, 0 where there were none or another was first.

        Raises `Refusal` where SQL is away, and what the stream raises.
        """
        return len(await self._record(partition) or ())

    async def _record(self, partition: int) -> UsageEvents | None:
        """Record one batch, and give it; None where another recorder was first."""
        events = await self._stream.events(partition, STREAM_START, self._batch)
        if not events:
            return events
        progress = await self._commit(partition, events)
        if progress is None:
            return None
        _tell(partition, progress)
        await self._stream.trim(partition, events[-1])
        return events

    async def caught_up(self, within_ms: int) -> bool:
        """Wait until everything that stands in the streams now is recorded; False where time ran out.

        `run_for_ever` records it: a round that begins from now on and reads every stream to its end.
        """
        wanted = self._begun + 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_ms / 1000):
                while self._whole < wanted:
                    await self._round_over.wait()
        return self._whole >= wanted

    async def _commit(self, partition: int, events: list[UsageEvent]) -> Progress | None:
        """Write rows and cursor in one transaction; None where another recorder moved the cursor meanwhile."""
        # Should this fail, nobody knows whether the commit stands: then the cursor is read again.
        before = self._cursors.pop(partition, None) or await self._load(partition)
        progress = advance(before, events)
        async with writing(self._engine) as connection:
            await freezing.share(
                connection
            )  # before any row is locked: whoever freezes a month waits for no row
            if not await cursors.move(connection, partition, before, progress.cursor):
                return None
            if progress.late:
                await cursors.fill_gaps(connection, partition, progress.late)
            await cursors.note_gaps(connection, partition, progress.gaps, self._clock())
            await write(connection, partition, events, self._persons_for)
        self._cursors[partition] = progress.cursor
        return progress

    async def _load(self, partition: int) -> Cursor:
        async with reading(self._engine) as connection:
            return await cursors.load(connection, partition)

    async def run_for_ever(self, every_ms: int) -> None:
        """Record what comes, looking every `every_ms`, until `close`; nothing that fails ends it."""
        while not self._closing.is_set():
            async with self._turn:
                more = await self._round()
            self._round_over.set()  # whoever waits is woken, and waits for the next one
            self._round_over.clear()
            if not more:
                await self._pause(every_ms / 1000)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    async def _round(self) -> bool:
        """Record a batch of each partition; True where more is waiting and nothing failed."""
        self._begun += 1
        lots: list[UsageEvents | None] = []
        failed: Exception | None = None
        for partition in self._partitions:
            try:
                lots.append(await self._record(partition))
            except Exception as error:  # noqa: BLE001 - whatever it was, the next round may do better
                failed = error
                if isinstance(error, self._away):
                    break  # away for the other partitions as well
        if failed is None:
            failed = await self._count()
        if failed is not None:
            self._stumbled(failed)
            return False
        self._recovered()
        if all(lot is not None and not lot.more for lot in lots):
            self._whole = self._begun
        return any(lot is not None and lot.more for lot in lots)

    async def _count(self) -> Exception | None:
        try:
            self.waiting = sum([await self._stream.backlog(partition) for partition in self._partitions])
        except self._away as error:
            return error
        STREAM_BACKLOG.set(self.waiting)
        return None

    def _stumbled(self, error: Exception) -> None:
        self.waiting = None
        RECORDER_ERRORS.inc()
        trouble = f"{type(error).__name__} {getattr(error, 'code', '')}".strip()
        if trouble == self._trouble:
            return  # it was said when it began
        self._trouble = trouble
        if isinstance(error, self._away):
            log.warning("usage waits in the stream", error=str(error))
        else:
            log.error("usage cannot be recorded", exc_info=error)

    def _recovered(self) -> None:
        if self._trouble:
            log.info("usage is recorded again", waiting=self.waiting)
        self._trouble = ""

    async def close(self, within_ms: int) -> bool:
        """End `run_for_ever` and record what is still there; False where time ran out or something is away.

        What is left waits in the stream for the next recorder.
        """
        self._closing.set()
        try:
            async with asyncio.timeout(within_ms / 1000), self._turn:
                while await self._round():
                    pass
        except TimeoutError:
            self.waiting = None
        if self.waiting == 0:
            return True
        log.warning("usage left in the stream", waiting=self.waiting)
        return False


def _tell(partition: int, progress: Progress) -> None:
    for kind, count in Counter(event.kind for event in progress.new).items():
        RECORDED.labels(kind).inc(count)
    for gap in progress.gaps:
        SEQ_GAPS.inc()
        log.error("usage events were lost", partition=partition, **gap._asdict())
