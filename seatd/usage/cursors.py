"""The recorder's cursors and gaps in SQL: read, moved only from where they were thought to stand.

Decides that a cursor moves by compare-and-set, so that of several recorders which read the same events one
writes them.  What the events say is not known here, and nothing is committed.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.database.engine import inserting
from seatd.database.schema import recorder_cursors, seq_gaps
from seatd.model import UsageEvent
from seatd.usage.sequence import Cursor, Gap, filled


async def load(connection: AsyncConnection, partition: int) -> Cursor:
    """Read where a partition is recorded up to; the beginning where nothing ever was."""
    row = recorder_cursors.c
    query = select(row.stream_id, row.epoch, row.seq).where(row.partition == partition)
    found = (await connection.execute(query)).one_or_none()
    return Cursor(*found) if found else Cursor()


async def move(connection: AsyncConnection, partition: int, before: Cursor, after: Cursor) -> bool:
    """Move a cursor, and hold it to the end of the transaction; False where it stands elsewhere by now."""
    row = recorder_cursors.c
    await connection.execute(
        inserting(connection, recorder_cursors)
        .values(partition=partition, **Cursor()._asdict())
        .on_conflict_do_nothing(index_elements=["partition"])
    )
    moved = await connection.execute(
        update(recorder_cursors)
        .where(
            row.partition == partition,
            row.stream_id == before.stream_id,
            row.epoch == before.epoch,
            row.seq == before.seq,
        )
        .values(**after._asdict())
    )
    return bool(moved.rowcount)


async def note_gaps(
    connection: AsyncConnection,
    partition: int,
    gaps: Iterable[Gap],
    noticed_ms: int,
    accepted: tuple[int | None, str | None] = (None, None),
) -> None:
    """Write new gaps, or parts of one that was `accepted` (when, why); one that stands already stays as it is."""
    known: dict[str, Any] = {"partition": partition, "noticed_ms": noticed_ms}
    known |= dict(zip(("accepted_ms", "accepted_reason"), accepted, strict=True))
    rows = [known | gap._asdict() for gap in gaps]
    if rows:
        await connection.execute(
            inserting(connection, seq_gaps).on_conflict_do_nothing(
                index_elements=["partition", "epoch", "from_seq"]
            ),
            rows,
        )


async def fill_gaps(connection: AsyncConnection, partition: int, late: Iterable[UsageEvent]) -> None:
    """Close gaps, or parts of them, whose events have come after all."""
    seen = list(late)
    row = seq_gaps.c
    of_epochs = (row.partition == partition, row.epoch.in_({event.epoch for event in seen}))
    columns = (row.epoch, row.from_seq, row.to_seq)
    kept = ("noticed_ms", "accepted_ms", "accepted_reason")
    query = select(*columns, *(row[name] for name in kept)).where(*of_epochs)
    for *numbers, noticed_ms, accepted_ms, reason in (await connection.execute(query)).all():
        gap = Gap(*numbers)
        left = filled([gap], seen)
        if left == [gap]:
            continue
        this = (row.partition == partition, row.epoch == gap.epoch, row.from_seq == gap.from_seq)
        await connection.execute(delete(seq_gaps).where(*this))
        await note_gaps(connection, partition, left, noticed_ms, (accepted_ms, reason))


async def accept_gaps(connection: AsyncConnection, since_ms: int, *, now_ms: int, reason: str) -> None:
    """Accept every gap noticed at `since_ms` or later that nobody has accepted yet."""
    row = seq_gaps.c
    await connection.execute(
        update(seq_gaps)
        .where(row.noticed_ms >= since_ms, row.accepted_ms.is_(None))
        .values(accepted_ms=now_ms, accepted_reason=reason)
    )
