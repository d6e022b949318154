"""Closed months as they are kept: found, read file by file, and packed as evidence.

Nothing is made here but bundles, of bytes that stand: whoever asks for a file of a closed month gets the same bytes for
ever.  Files are read a few parts at a time; no transaction is open while somebody takes them in.
"""

import json
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from seatd.billing.bundle import pack, way_up
from seatd.billing.verify_bundle import COMMON, canonical, leaf
from seatd.database.engine import reading
from seatd.database.schema import CLOSED, month_parts, months
from seatd.flows.month_files import HEADS, TENANTS
from seatd.model import Refusal

MANIFEST: Final = "manifest.json"
_PARTS_AT_ONCE: Final = 16


class ClosedMonth(NamedTuple):
    """A closed month; `token` names its files, `manifest` is JSON as it was signed."""

    period: str
    token: str
    start_ms: int
    end_ms: int
    timezone: str
    price_list: str
    closed_ms: int
    manifest: str

    @property
    def signed(self) -> dict[str, Any]:
        """What the manifest says."""
        return dict(json.loads(self.manifest)["signed"])

    @property
    def kid(self) -> str:
        """The key that signed the manifest."""
        return str(json.loads(self.manifest)["signature"]["kid"])


_COLUMNS: Final = tuple(months.c[name] for name in ClosedMonth._fields)


async def find(connection: AsyncConnection, period: str) -> ClosedMonth | None:
    """Find a month, if it is closed."""
    query = select(*_COLUMNS).where(months.c.period == period, months.c.state == CLOSED)
    row = (await connection.execute(query)).one_or_none()
    return ClosedMonth(*row) if row else None


async def listed(connection: AsyncConnection) -> tuple[ClosedMonth, ...]:
    """List the closed months, in order."""
    query = select(*_COLUMNS).where(months.c.state == CLOSED).order_by(months.c.period)
    return tuple(ClosedMonth(*row) for row in await connection.execute(query))


async def tenant_lines(connection: AsyncConnection, token: str, name: str, tenant: str) -> bytes:
    """Give a tenant's lines of a file, without the head."""
    row = month_parts.c
    query = (
        select(row.content)
        .where(row.token == token, row.name == name, row.tenant == tenant)
        .order_by(row.part)
    )
    return b"".join(zlib.decompress(part) for (part,) in await connection.execute(query))


@dataclass(frozen=True, slots=True)
class ClosedMonths:
    """The closed months of this deployment.  All methods raise `Refusal` where SQL does not answer."""

    engine: AsyncEngine

    async def find(self, period: str) -> ClosedMonth | None:
        """Find a month, if it is closed."""
        async with reading(self.engine) as connection:
            return await find(connection, period)

    async def file(self, month: ClosedMonth, name: str) -> AsyncIterator[bytes]:
        """Give the bytes of a file, a few parts at a time; at least one chunk, which may be empty."""
        if name == MANIFEST:
            yield month.manifest.encode()
            return
        if name not in month.signed["files"]:
            raise Refusal("not_found", f"{month.period} was closed without {name}.")
        row, after = month_parts.c, -1
        yield b""
        while True:
            query = (
                select(row.part, row.content)
                .where(row.token == month.token, row.name == name, row.part > after)
                .order_by(row.part)
                .limit(_PARTS_AT_ONCE)
            )
            async with reading(self.engine) as connection:
                parts = (await connection.execute(query)).all()
            if not parts:
                return
            after = parts[-1].part
            yield b"".join(zlib.decompress(part.content) for part in parts)

    async def read(self, month: ClosedMonth, name: str) -> bytes:
        """Give a file whole."""
        return b"".join([chunk async for chunk in self.file(month, name)])

    async def bundle(self, month: ClosedMonth, tenant: str) -> bytes:
        """Pack a tenant's evidence; raises `Refusal` `not_found` where the month has nothing of the tenant."""
        leaves = [json.loads(line) for line in (await self.read(month, TENANTS)).splitlines()]
        index = next((at for at, each in enumerate(leaves) if each["tenant"] == tenant), None)
        if index is None:
            raise Refusal("not_found", f"{month.period} has nothing of a tenant {tenant}.")
        own = leaves[index]
        way = way_up([leaf(each["tenant"], each["files"]) for each in leaves], index)
        files = {MANIFEST: month.manifest.encode(), "tenant.json": canonical(own | {"path": way})}
        for name in COMMON:
            files[name] = await self.read(month, name)
        async with reading(self.engine) as connection:
            for name in own["files"]:
                lines = await tenant_lines(connection, month.token, name, tenant)
                files[name] = HEADS[name] + lines
        return b"".join(pack(files))
