"""The audit log: append to it, read it, and prove that nobody changed it.

Every row's hash covers the hash of the row before and the row's own content, so that a changed, removed or
inserted row is found.  A log cut short at its end is found only by who noted the last hash.  `detail` never
holds a key, nor a user's name: names must stay erasable, and this log is not.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Row, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts.records import AuditRow
from seatd.database.schema import audit

GENESIS: Final = "0" * 64
_HASHED: Final = ("seq", "at_ms", "actor", "action", "tenant", "detail")
_LOCK: Final = 0x5EA7A
"""Of PostgreSQL's advisory locks, the one that whoever appends holds to the end of the transaction."""


def canonical(value: Any) -> str:
    """Give the one JSON text of `value`: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def row_hash(prev_hash: str, content: Mapping[str, Any]) -> str:
    """Give the hash (hex) of a row: of the hash before it, and all its other columns as canonical JSON."""
    return sha256(f"{prev_hash}{canonical(dict(content))}".encode()).hexdigest()


async def append(
    connection: AsyncConnection,
    *,
    at_ms: int,
    actor: str,
    action: str,
    tenant: str | None,
    detail: Mapping[str, Any],
) -> int:
    """Append a row in the transaction of the change that it tells of, and give its number.

    Take it as the last lock of a transaction: everybody else who appends waits for the commit.
    """
    await lock(connection)
    seq, prev_hash = await head(connection)
    content = {
        "seq": seq + 1,
        "at_ms": at_ms,
        "actor": actor,
        "action": action,
        "tenant": tenant,
        "detail": canonical(dict(detail)),
    }
    chained = {"prev_hash": prev_hash, "hash": row_hash(prev_hash, content)}
    await connection.execute(insert(audit).values(content | chained))
    return seq + 1


async def lock(connection: AsyncConnection) -> None:
    """Keep everybody else from appending, to the end of the transaction."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


async def head(connection: AsyncConnection) -> tuple[int, str]:
    """Give the number and the hash of the last row; `(0, GENESIS)` where there is none."""
    query = select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)
    row = (await connection.execute(query)).one_or_none()
    return (row.seq, row.hash) if row else (0, GENESIS)


async def listed(
    connection: AsyncConnection, *, tenant: str | None, after: int, limit: int
) -> tuple[AuditRow, ...]:
    """List at most `limit` rows with a number above `after`, in order; `tenant` None: of all."""
    query = select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(limit)
    if tenant is not None:
        query = query.where(audit.c.tenant == tenant)
    return tuple(_record(row) for row in await connection.execute(query))


async def first_broken(connection: AsyncConnection) -> int | None:
    """Walk the whole chain, and give the number at which it first does not hold; None: it holds."""
    expected, prev_hash = 1, GENESIS
    async with connection.stream(select(audit).order_by(audit.c.seq)) as rows:
        async for row in rows:
            if row.seq != expected or row.prev_hash != prev_hash or row.hash != _hash_of(row):
                return expected
            expected, prev_hash = expected + 1, row.hash
    return None


def _hash_of(row: Row[Any]) -> str:
    columns = row._asdict()
    return row_hash(row.prev_hash, {name: columns[name] for name in _HASHED})


def _record(row: Row[Any]) -> AuditRow:
    return AuditRow(
        seq=row.seq,
        at_ms=row.at_ms,
        actor=row.actor,
        action=row.action,
        tenant=row.tenant,
        detail=json.loads(row.detail),
        prev_hash=row.prev_hash,
        hash=row.hash,
    )
