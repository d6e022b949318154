"""Which rows of the ledger leave the database with an archived month, how they are read, and how they are taken away.

Decides what leaves: leases that begin at an instant or later and have ended by the month's end, unless something was known late
of them; and of each chain all rows before the first that a lease which stays rests on.  The last row before a cut stays, so that
whoever walks on from there finds its hash.  Whether anything may leave at all is not decided here; the database's triggers mind it.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, and_, delete, exists, func, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.database.engine import inserting
from seatd.database.schema import archived_chains, late_leases, ledger_leases, usage_chain
from seatd.usage.chain import GENESIS

LEASE_COLUMNS: Final = (
    "tenant", "lease", "partition", "pos", "person", "tariff", "started_ms", "ended_ms", "end_reason", "labels",
)  # fmt: skip
LINK_COLUMNS: Final = ("partition", "pos", "row", "hash")
_PAGE: Final = 5_000


class Cut(NamedTuple):
    """The rows of a partition's chain that leave: from `first` on, before `pos`; `prev` is the hash before them."""

    partition: int
    first: int
    pos: int
    prev: str


def _leaving(from_ms: int, end_ms: int) -> ColumnElement[bool]:
    row, late = ledger_leases.c, late_leases.c
    known_late = exists().where(late.tenant == row.tenant, late.lease == row.lease)
    return and_(func.coalesce(row.started_ms, row.ended_ms) >= from_ms, row.ended_ms <= end_ms, ~known_late)


async def leases(connection: AsyncConnection, from_ms: int, end_ms: int) -> AsyncIterator[list[Any]]:
    """Give the leases that leave, as `LEASE_COLUMNS`, some at a time, by tenant and id."""
    row = ledger_leases.c
    after = ("", "")
    while True:
        query = (
            select(*(row[name] for name in LEASE_COLUMNS))
            .where(_leaving(from_ms, end_ms), tuple_(row.tenant, row.lease) > after)
            .order_by(row.tenant, row.lease)
            .limit(_PAGE)
        )
        page = list((await connection.execute(query)).all())
        if not page:
            return
        yield page
        after = (page[-1].tenant, page[-1].lease)


async def count(connection: AsyncConnection, from_ms: int, end_ms: int) -> int:
    """Count the leases that leave."""
    query = select(func.count()).select_from(ledger_leases).where(_leaving(from_ms, end_ms))
    return int((await connection.execute(query)).scalar_one())


async def cuts(connection: AsyncConnection, heads: Mapping[int, int], from_ms: int, end_ms: int) -> list[Cut]:
    """Tell where each partition's chain may be cut, no later than at the row that it ended with when the month was closed."""
    row, late = ledger_leases.c, late_leases.c
    staying = union_all(
        select(row.partition, row.pos).where(~func.coalesce(_leaving(from_ms, end_ms), False)),
        select(late.partition, late.pos),
    ).subquery()
    query = select(staying.c.partition, func.min(staying.c.pos)).group_by(staying.c.partition)
    needed = {partition: pos for partition, pos in await connection.execute(query) if pos is not None}
    found = await connection.execute(select(archived_chains))
    archived = {each.partition: (each.pos, each.hash) for each in found}
    made = []
    for partition, head in sorted(heads.items()):
        first, prev = archived.get(partition, (1, GENESIS))
        pos = min(head, needed.get(partition, head + 1) - 1)
        if pos > first:
            made.append(Cut(partition, first, pos, prev))
    return made


async def links(connection: AsyncConnection, cut: Cut) -> AsyncIterator[list[Any]]:
    """Give the rows of the chain that leave, as `LINK_COLUMNS`, some at a time, in order."""
    row, after = usage_chain.c, cut.first - 1
    while True:
        query = (
            select(*(row[name] for name in LINK_COLUMNS))
            .where(row.partition == cut.partition, row.pos > after, row.pos < cut.pos)
            .order_by(row.pos)
            .limit(_PAGE)
        )
        page = list((await connection.execute(query)).all())
        if not page:
            return
        yield page
        after = page[-1].pos


async def note_cut(connection: AsyncConnection, cut: Cut, last: str) -> None:
    """Write down that the rows before a cut are archived; `last` is the hash of the last of them."""
    statement = inserting(connection, archived_chains).values(partition=cut.partition, pos=cut.pos, hash=last)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["partition"],
            set_={"pos": statement.excluded.pos, "hash": statement.excluded.hash},
        )
    )


async def take_leases(connection: AsyncConnection, from_ms: int, end_ms: int) -> int:
    """Take some of the leases away that leave; tells how many, 0 once there are none."""
    row = ledger_leases.c
    some = (
        select(row.tenant, row.lease).where(_leaving(from_ms, end_ms)).order_by(row.tenant, row.lease)
    ).limit(_PAGE)
    gone = await connection.execute(delete(ledger_leases).where(tuple_(row.tenant, row.lease).in_(some)))
    return gone.rowcount


async def take_links(connection: AsyncConnection) -> int:
    """Take some of the rows away that were cut off the chains; tells how many, 0 once there are none."""
    row, cut = usage_chain.c, archived_chains.c
    some = (
        select(row.partition, row.pos)
        .join(archived_chains, and_(cut.partition == row.partition, row.pos < cut.pos))
        .order_by(row.partition, row.pos)
        .limit(_PAGE)
    )
    gone = await connection.execute(delete(usage_chain).where(tuple_(row.partition, row.pos).in_(some)))
    return gone.rowcount
