"""Read the ledger: leases, samples, denials, and the numbers that were never seen.

Decides what "of a time" means: a lease is of every span that it overlaps, a sample of the span that its minute
begins in.  Billing's readers know people by their random id; only `sittings`, which a tenant's own administrators
see, joins their names in.  Nothing is written here and nothing is added up.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.database.schema import denials, ledger_leases, people, samples, seq_gaps


@dataclass(frozen=True, slots=True)
class Sample:
    """How full a tenant was in the minute from `minute_ms`: `in_use` at its end, and the most at once."""

    minute_ms: int
    in_use: int
    peak: int
    capacity: int
    waiting: int
    denied: int


@dataclass(frozen=True, slots=True)
class SittingRecord:
    """A lease as the ledger knows it.

    `user` is None where the name was erased, `tariff` empty and `started_ms` None where the start was lost,
    `ended_ms` None while it is open.
    """

    lease: str
    user: str | None
    person: str
    tariff: str
    started_ms: int | None
    ended_ms: int | None
    end_reason: str | None
    labels: Mapping[str, str]

    @property
    def mark(self) -> str:
        """Name its place in the list."""
        return f"{_begin(self.started_ms, self.ended_ms)}:{self.lease}"


class LeaseSpan(NamedTuple):
    """A lease as billing reads it; `ended_ms` None: open, `started_ms` None: its start was lost."""

    started_ms: int | None
    ended_ms: int | None
    person: str
    tariff: str


@dataclass(frozen=True, slots=True)
class OpenGap:
    """Events `from_seq` to `to_seq` of a partition's epoch, never seen, noticed at `noticed_ms`."""

    partition: int
    epoch: int
    from_seq: int
    to_seq: int
    noticed_ms: int


def _begin(started_ms: int | None, ended_ms: int | None) -> int:
    return started_ms if started_ms is not None else ended_ms or 0


def _overlaps(tenant: str, from_ms: int, to_ms: int) -> ColumnElement[bool]:
    row = ledger_leases.c
    begun = or_(row.started_ms < to_ms, and_(row.started_ms.is_(None), row.ended_ms < to_ms))
    return and_(row.tenant == tenant, begun, or_(row.ended_ms.is_(None), row.ended_ms > from_ms))


async def samples_of(
    connection: AsyncConnection, tenant: str, from_ms: int, to_ms: int, *, limit: int
) -> tuple[Sample, ...]:
    """Give a tenant's first samples of `[from_ms, to_ms)`, in order of time."""
    row = samples.c
    query = (
        select(row.minute_ms, row.in_use, row.peak, row.capacity, row.waiting, row.denied)
        .where(row.tenant == tenant, row.minute_ms >= from_ms, row.minute_ms < to_ms)
        .order_by(row.minute_ms)
        .limit(limit)
    )
    return tuple(Sample(*values) for values in await connection.execute(query))


async def sittings(
    connection: AsyncConnection,
    tenant: str,
    from_ms: int,
    to_ms: int,
    *,
    after: tuple[int, str] | None,
    limit: int,
) -> tuple[SittingRecord, ...]:
    """Give a tenant's first leases that overlap `[from_ms, to_ms)`, with names, by their begin and id.

    `after` is the begin and the id of the lease that those wanted follow.
    """
    row = ledger_leases.c
    begin = func.coalesce(row.started_ms, row.ended_ms, 0)
    named = ledger_leases.outerjoin(
        people, and_(people.c.tenant == row.tenant, people.c.person == row.person)
    )
    columns = (row.lease, people.c.name, row.person, row.tariff)
    query = (
        select(*columns, row.started_ms, row.ended_ms, row.end_reason, row.labels)
        .select_from(named)
        .where(_overlaps(tenant, from_ms, to_ms))
        .order_by(begin, row.lease)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(begin, row.lease) > after)
    return tuple(SittingRecord(*values) for values in await connection.execute(query))


async def spans_of(
    connection: AsyncConnection, tenant: str, from_ms: int, to_ms: int
) -> AsyncIterator[LeaseSpan]:
    """Give all leases of a tenant that overlap `[from_ms, to_ms)`, in no order."""
    row = ledger_leases.c
    query: Any = select(row.started_ms, row.ended_ms, row.person, row.tariff)
    async with connection.stream(query.where(_overlaps(tenant, from_ms, to_ms))) as rows:
        async for values in rows:
            yield LeaseSpan(*values)


async def denials_of(connection: AsyncConnection, tenant: str, from_ms: int, to_ms: int) -> tuple[int, ...]:
    """Give the instants of a tenant's denials in `[from_ms, to_ms)`, in order."""
    row = denials.c
    query = select(row.at_ms).where(row.tenant == tenant, row.at_ms >= from_ms, row.at_ms < to_ms)
    return tuple((await connection.execute(query.order_by(row.at_ms))).scalars())


async def gaps_since(connection: AsyncConnection, since_ms: int) -> tuple[OpenGap, ...]:
    """Give the gaps noticed at `since_ms` or later: what is missing may be as old as the notice before."""
    row = seq_gaps.c
    query = (
        select(row.partition, row.epoch, row.from_seq, row.to_seq, row.noticed_ms)
        .where(row.noticed_ms >= since_ms)
        .order_by(row.partition, row.epoch, row.from_seq)
    )
    return tuple(OpenGap(*values) for values in await connection.execute(query))
