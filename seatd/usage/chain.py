"""The chain of usage rows: every version of every row of a partition, each hash over the one before it.

Decides what is hashed: the place in the chain, and the row as one JSON text.  A row that was changed, removed or put in
afterwards is found, by whoever walks the chain or has a later hash of it.  It is append-only, kept so by the
database; where it ends is held to the end of the transaction by whoever appends.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.database.bulk import insert_many
from seatd.database.engine import inserting, locked
from seatd.database.schema import chain_heads, usage_chain
from seatd.usage.rest import Rest, never, timed

GENESIS: Final = "0" * 64
_PAGE: Final = 500
"""So few that nobody else waits long while they are hashed."""
_escaped: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
_quick: Final = msgspec.json.Encoder().encode


class Head(NamedTuple):
    """Where a chain ends: the number and the hash of its last row."""

    pos: int = 0
    hash: str = GENESIS


class Link(NamedTuple):
    """One row of a chain: its place, the hash before it, its JSON text and its own hash."""

    partition: int
    pos: int
    prev: str
    row: str
    hash: str


def link_hash(prev: str, partition: int, pos: int, row: str) -> str:
    """Give the hash of a row (JSON text) at its place."""
    return sha256(f"{prev}:{partition}:{pos}:{row}".encode()).hexdigest()


def row_text(values: Sequence[Any]) -> str:
    """Give a row of texts, whole numbers and nulls as JSON in ASCII, without spaces."""
    quick = _quick(values)
    return quick.decode() if quick.isascii() and b"\x7f" not in quick else _escaped(values)


async def hold(connection: AsyncConnection, partition: int) -> Head:
    """Give where a partition's chain ends, and keep others from appending to the end of the transaction."""
    await connection.execute(
        inserting(connection, chain_heads)
        .values(partition=partition, pos=0, hash=GENESIS)
        .on_conflict_do_nothing(index_elements=["partition"])
    )
    row = chain_heads.c
    query = locked(select(row.pos, row.hash).where(row.partition == partition))
    return Head(*(await connection.execute(query)).one())


async def append(
    connection: AsyncConnection, partition: int, head: Head, rows: Sequence[Sequence[Any]]
) -> Head:
    """Append rows after the head that is held; the first gets the number `head.pos + 1`."""
    if not rows:
        return head
    pos, last = head
    links: list[tuple[int, int, str, str]] = []
    for values in rows:
        pos, row = pos + 1, row_text(values)
        last = link_hash(last, partition, pos, row)
        links.append((partition, pos, row, last))
    await insert_many(connection, usage_chain, ("partition", "pos", "row", "hash"), links)
    await connection.execute(
        update(chain_heads).where(chain_heads.c.partition == partition).values(pos=pos, hash=last)
    )
    return Head(pos, last)


async def heads(connection: AsyncConnection) -> dict[int, Head]:
    """Give where each partition's chain ends."""
    row = chain_heads.c
    found = await connection.execute(select(row.partition, row.pos, row.hash).order_by(row.partition))
    return {partition: Head(pos, last) for partition, pos, last in found}


async def first_broken(
    connection: AsyncConnection, partition: int, after: Head, upto: Head, rest: Rest = never
) -> int | None:
    """Walk a chain from one of its heads to a later one; give the number at which it does not hold, None: it does."""
    pos, last = after
    row = usage_chain.c
    while pos < upto.pos:
        began_s = time.monotonic()
        query = (
            select(row.pos, row.row, row.hash)
            .where(row.partition == partition, row.pos > pos, row.pos <= upto.pos)
            .order_by(row.pos)
            .limit(_PAGE)
        )
        page = (await connection.execute(query)).all()
        if not page:
            return pos + 1
        (pos, last, broken), waited = timed(partial(_followed, page, partition, pos, last))
        if broken:
            return pos + 1
        await asyncio.sleep(rest(time.monotonic() - began_s, waited))
    return None if last == upto.hash else upto.pos


def _followed(page: Iterable[Any], partition: int, pos: int, last: str) -> tuple[int, str, bool]:
    """Follow a chain over some of its rows; gives where it holds up to, and whether it is broken after that."""
    for found, text, hashed in page:
        expected = link_hash(last, partition, pos + 1, text)
        if found != pos + 1 or hashed != expected:
            return pos, last, True
        pos, last = found, expected
    return pos, last, False
