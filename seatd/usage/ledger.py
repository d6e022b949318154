"""Read the ledger: leases, samples, denials, and the numbers that were never seen.

Decides what "of a time" means: a lease is of every span that it overlaps, a sample of the span that its minute
begins in.  Billing's readers know people by their random id; only `sittings`, which a tenant's own administrators
see, joins their names in.  Nothing is written here and nothing is added up.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Select,
    Subquery,
    Table,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    tuple_,
    union,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.database.schema import denials, late_leases, ledger_leases, people, samples, seq_gaps, usage_chain
from seatd.usage.chain import GENESIS, Link


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
    lease: str
    end_reason: str | None


class DenialRecord(NamedTuple):
    """A refused acquire."""

    at_ms: int
    person: str
    reason: str


@dataclass(frozen=True, slots=True)
class OpenGap:
    """Events `from_seq` to `to_seq` of a partition's epoch, never seen, noticed at `noticed_ms`."""

    partition: int
    epoch: int
    from_seq: int
    to_seq: int
    noticed_ms: int


class AcceptedGap(NamedTuple):
    """Events that were never seen, and why a month was closed all the same."""

    partition: int
    epoch: int
    from_seq: int
    to_seq: int
    reason: str


def _begin(started_ms: int | None, ended_ms: int | None) -> int:
    return started_ms if started_ms is not None else ended_ms or 0


_TENANTS: Final[BindParameter[Any]] = bindparam("tenants", expanding=True)
_FROM_MS: Final = bindparam("from_ms", type_=BigInteger)
_TO_MS: Final = bindparam("to_ms", type_=BigInteger)


def _overlaps(table: Table) -> ColumnElement[bool]:
    row = table.c
    begun = or_(row.started_ms < _TO_MS, and_(row.started_ms.is_(None), row.ended_ms < _TO_MS))
    return and_(row.tenant.in_(_TENANTS), begun, or_(row.ended_ms.is_(None), row.ended_ms > _FROM_MS))


def _leases() -> Subquery:
    """Select the leases of `tenants` that overlap `[from_ms, to_ms)`, as they are known now: what became known late goes before."""
    row, late, later = ledger_leases.c, late_leases.c, late_leases.alias("later")
    names = ("tenant", "lease", "partition", "pos", "person", "tariff")
    more = ("started_ms", "ended_ms", "end_reason", "labels")
    known_later = and_(later.c.tenant == late.tenant, later.c.lease == late.lease, later.c.pos > late.pos)
    in_time = select(*(row[name] for name in names + more)).where(
        _overlaps(ledger_leases),
        ~exists().where(late.tenant == row.tenant, late.lease == row.lease),
    )
    since = select(*(late[name] for name in names + more)).where(
        _overlaps(late_leases), ~exists(select(later.c.pos).where(known_later))
    )
    return union_all(in_time, since).subquery("leases")


def _asked(tenants: Collection[str], from_ms: int, to_ms: int) -> dict[str, Any]:
    return {"tenants": list(tenants), "from_ms": from_ms, "to_ms": to_ms}


# To make a question costs more than to ask it of one tenant, so those of every tenant are made once.
_FOUND: Final = _leases()


def _links() -> Select[Any]:
    row, before = usage_chain.c, usage_chain.alias("before")
    here = and_(row.partition == _FOUND.c.partition, row.pos == _FOUND.c.pos)
    one_before = and_(before.c.partition == row.partition, before.c.pos == row.pos - 1)
    columns = (row.partition, row.pos, func.coalesce(before.c.hash, GENESIS), row.row, row.hash)
    joined = _FOUND.join(usage_chain, here).outerjoin(before, one_before)
    return select(_FOUND.c.tenant, *columns).select_from(joined).order_by(row.partition, row.pos)


_LINKS: Final = _links()
_SPANS: Final = select(
    *(
        _FOUND.c[name]
        for name in ("tenant", "started_ms", "ended_ms", "person", "tariff", "lease", "end_reason")
    )
).order_by(_FOUND.c.partition, _FOUND.c.pos, _FOUND.c.lease)


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
    row = _FOUND.c
    begin = func.coalesce(row.started_ms, row.ended_ms, 0)
    named = _FOUND.outerjoin(people, and_(people.c.tenant == row.tenant, people.c.person == row.person))
    columns = (row.lease, people.c.name, row.person, row.tariff)
    query = (
        select(*columns, row.started_ms, row.ended_ms, row.end_reason, row.labels)
        .select_from(named)
        .order_by(begin, row.lease)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(begin, row.lease) > after)
    rows = await connection.execute(query, _asked([tenant], from_ms, to_ms))
    return tuple(SittingRecord(*values) for values in rows)


async def spans_of(
    connection: AsyncConnection, tenants: Collection[str], from_ms: int, to_ms: int
) -> defaultdict[str, list[LeaseSpan]]:
    """Give all leases of some tenants that overlap `[from_ms, to_ms)`, by tenant, in the order of the chain."""
    found: defaultdict[str, list[LeaseSpan]] = defaultdict(list)
    for tenant, *values in await connection.execute(_SPANS, _asked(tenants, from_ms, to_ms)):
        found[tenant].append(LeaseSpan(*values))
    return found


async def links_of(
    connection: AsyncConnection, tenants: Collection[str], from_ms: int, to_ms: int
) -> defaultdict[str, list[Link]]:
    """Give the rows of the chain under the leases that `spans_of` gives, by tenant, in the same order."""
    found: defaultdict[str, list[Link]] = defaultdict(list)
    for tenant, *values in await connection.execute(_LINKS, _asked(tenants, from_ms, to_ms)):
        found[tenant].append(Link(*values))
    return found


async def denials_of(
    connection: AsyncConnection, tenants: Collection[str], from_ms: int, to_ms: int
) -> defaultdict[str, list[DenialRecord]]:
    """Give the denials of some tenants in `[from_ms, to_ms)`, by tenant, in order."""
    row = denials.c
    query = select(row.tenant, row.at_ms, row.person, row.reason).where(
        row.tenant.in_(tenants), row.at_ms >= from_ms, row.at_ms < to_ms
    )
    found: defaultdict[str, list[DenialRecord]] = defaultdict(list)
    for tenant, *values in await connection.execute(query.order_by(row.at_ms, row.person, row.reason)):
        found[tenant].append(DenialRecord(*values))
    return found


async def persons_since(connection: AsyncConnection, tenant: str, since_ms: int) -> set[str]:
    """Give the ids of those who sat, or were refused a seat, at `since_ms` or later."""
    sat = [
        select(table.c.person).where(
            table.c.tenant == tenant, or_(table.c.ended_ms.is_(None), table.c.ended_ms >= since_ms)
        )
        for table in (ledger_leases, late_leases)
    ]
    refused = select(denials.c.person).where(denials.c.tenant == tenant, denials.c.at_ms >= since_ms)
    return set((await connection.execute(union(*sat, refused))).scalars())


async def accepted_since(connection: AsyncConnection, since_ms: int) -> tuple[AcceptedGap, ...]:
    """Give the gaps noticed at `since_ms` or later that somebody accepted, in order."""
    row = seq_gaps.c
    query = (
        select(row.partition, row.epoch, row.from_seq, row.to_seq, row.accepted_reason)
        .where(row.noticed_ms >= since_ms, row.accepted_ms.is_not(None))
        .order_by(row.partition, row.epoch, row.from_seq)
    )
    return tuple(AcceptedGap(*values) for values in await connection.execute(query))


async def gaps_since(connection: AsyncConnection, since_ms: int) -> tuple[OpenGap, ...]:
    """Give the gaps noticed at `since_ms` or later that nobody accepted: what is missing may be as old as the notice before."""
    row = seq_gaps.c
    query = (
        select(row.partition, row.epoch, row.from_seq, row.to_seq, row.noticed_ms)
        .where(row.noticed_ms >= since_ms, row.accepted_ms.is_(None))
        .order_by(row.partition, row.epoch, row.from_seq)
    )
    return tuple(OpenGap(*values) for values in await connection.execute(query))
