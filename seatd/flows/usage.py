"""What a tenant used, as its own administrators see it: samples, and the leases themselves, with names."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from seatd.accounts.changes import unknown_tenant
from seatd.accounts.pages import one_more, page
from seatd.accounts.records import Page
from seatd.database.engine import reading
from seatd.database.schema import tenants
from seatd.model import invalid
from seatd.usage.ledger import Sample, SittingRecord, samples_of, sittings

_DIGITS_MAX = 18


async def samples_page(
    engine: AsyncEngine, tenant: str, from_ms: int, to_ms: int, *, after: str | None, limit: int
) -> Page[Sample]:
    """Give a page of a tenant's samples of `[from_ms, to_ms)`; raises `Refusal`: `not_found`, `invalid_request`."""
    if after is not None:
        from_ms = max(from_ms, _number(after) + 1)
    async with reading(engine) as connection:
        await _check(connection, tenant)
        found = await samples_of(connection, tenant, from_ms, to_ms, limit=one_more(limit))
    return page(found, limit, lambda sample: str(sample.minute_ms))


async def sittings_page(
    engine: AsyncEngine, tenant: str, from_ms: int, to_ms: int, *, after: str | None, limit: int
) -> Page[SittingRecord]:
    """Give a page of a tenant's leases that overlap `[from_ms, to_ms)`; raises as `samples_page` does."""
    mark = None
    if after is not None:
        begin, _, lease = after.partition(":")
        mark = (_number(begin), lease)
    async with reading(engine) as connection:
        await _check(connection, tenant)
        found = await sittings(connection, tenant, from_ms, to_ms, after=mark, limit=one_more(limit))
    return page(found, limit, lambda record: record.mark)


async def _check(connection: AsyncConnection, tenant: str) -> None:
    if (await connection.execute(select(tenants.c.id).where(tenants.c.id == tenant))).first() is None:
        raise unknown_tenant(tenant)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise invalid("after", "is not from this list")
    return int(text)
