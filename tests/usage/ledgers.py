"""Read a whole ledger as plain data, names in place of ids; and a stream held in memory."""

from typing import Any

import msgpack
import redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.database.engine import reading
from seatd.database.schema import denials, ledger_leases, people, recorder_cursors, samples, seq_gaps
from seatd.model import UsageEvent, UsageEvents

META = "seatd:{{p{:02}}}:meta"
STREAM = "seatd:{{p{:02}}}:events"


async def ledger(engine: AsyncEngine, partition: int, prefix: str = "") -> dict[str, Any]:
    """All that is recorded of tenants whose ids begin with `prefix`, and of a partition's numbers."""
    async with reading(engine) as connection:

        async def rows(table: Any) -> list[Any]:
            found = (await connection.execute(select(table))).all()
            return [row for row in found if not hasattr(row, "tenant") or row.tenant.startswith(prefix)]

        names = {(row.tenant, row.person): row.name for row in await rows(people)}
        return {
            "leases": {
                (row.tenant, row.lease): (
                    names[row.tenant, row.person],
                    row.tariff,
                    row.started_ms,
                    row.ended_ms,
                    row.end_reason,
                )
                for row in await rows(ledger_leases)
            },
            "denials": {
                (row.tenant, names[row.tenant, row.person], row.reason, row.minute_ms): row.at_ms
                for row in await rows(denials)
            },
            "samples": {
                (row.tenant, row.minute_ms): (row.in_use, row.peak, row.capacity, row.waiting, row.denied)
                for row in await rows(samples)
            },
            "missing": {
                (row.epoch, seq)
                for row in await rows(seq_gaps)
                if row.partition == partition
                for seq in range(row.from_seq, row.to_seq + 1)
            },
        }


async def cursor(engine: AsyncEngine, partition: int) -> tuple[Any, ...] | None:
    async with reading(engine) as connection:
        query = select(recorder_cursors).where(recorder_cursors.c.partition == partition)
        row = (await connection.execute(query)).one_or_none()
        return tuple(row) if row else None


def packed(event: UsageEvent) -> bytes:
    """An event as the scripts write it."""
    head: list[Any] = [event.kind, event.tenant, event.at_ms]
    rest: list[Any]
    match event.kind:
        case "started":
            rest = [event.lease, event.user, event.tariff, dict(event.labels) or False]
        case "ended":
            rest = [event.lease, event.user, event.reason]
        case "denied":
            rest = [event.user, event.reason]
        case _:
            rest = list(event.numbers)
    return bytes(msgpack.packb(head + rest))


def put(client: "redis.Redis", *events: UsageEvent, entry_id: str = "*") -> None:
    """Add events to their partition's stream on a real store, up to three that follow each other in an entry."""
    entries: list[list[UsageEvent]] = []
    for event in events:
        last = entries[-1] if entries else []
        if 0 < len(last) < 3 and last[-1][:3] == (event.partition, event.epoch, event.seq - 1):
            last.append(event)
        else:
            entries.append([event])
    for entry in entries:
        partition, epoch, seq = entry[-1][:3]
        added = client.hincrby(META.format(partition), "added", len(entry))
        array = bytes([0xDC, 0, len(entry)]) + b"".join(map(packed, entry))
        fields: dict[Any, Any] = {"p": epoch, "s": seq, "a": added, "e": array}
        client.xadd(STREAM.format(partition), fields, id=entry_id)


class MemoryStream:
    """A stream as the store keeps it: entries in the order of ids that only rise, until it is lost."""

    def __init__(self) -> None:
        self.entries: list[UsageEvent] = []
        self.all: list[UsageEvent] = []
        self._last = 0

    def add(self, event: UsageEvent) -> None:
        self._last += 1
        self.entries.append(_with_id(event, self._last))
        self.all.append(event)

    def lose(self) -> None:
        """Come back empty, with ids that begin anew."""
        self.entries, self._last = [], 0

    def restore(self) -> None:
        """Come back from an older copy: what was trimmed is there again."""
        self.entries = [_with_id(event, number) for number, event in enumerate(self.all, 1)]
        self._last = len(self.all)

    async def events(self, partition: int, after: str, most: int) -> UsageEvents:
        found = [e for e in self.entries if _id(e.stream_id) > _id(after)]
        return UsageEvents(found[:most], more=len(found) > most)

    async def trim(self, partition: int, upto: UsageEvent) -> None:
        if upto in self.entries:
            self.entries = [e for e in self.entries if _id(e.stream_id) > _id(upto.stream_id)]

    async def backlog(self, partition: int) -> int:
        return len(self.entries)


def _id(text: str) -> tuple[int, int]:
    first, _, second = text.partition("-")
    return int(first), int(second)


def _with_id(event: UsageEvent, number: int) -> UsageEvent:
    return event._replace(stream_id=f"{number}-0")
