"""Forget who people were: the names of those who have neither sat nor been named for long are erased.

Decides whose: nobody who holds a lease or a binding, or did so, or was refused a seat, within the time that names are kept.  The random id
stays, in the ledger, the chain, and in every closed month; so sums and proofs are what they were, of a person whom
nobody can name any more.  Who comes back is somebody new.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from seatd.accounts import audit, people
from seatd.accounts.bindings import persons_since as named_since
from seatd.accounts.changes import lock_tenant
from seatd.accounts.facts import tenant_ids
from seatd.database import freezing
from seatd.database.engine import reading, writing
from seatd.model import Refusal
from seatd.telemetry import log
from seatd.usage.ledger import persons_since

DAY_MS: Final = 86_400_000
EVERY_S: Final = 3_600.0
_ACTOR: Final = "seatd"


async def forget_for_ever(engine: AsyncEngine, clock: Callable[[], int], after_days: int) -> None:
    """Look every hour, until cancelled; with 0 days names are kept."""
    while True:
        if after_days:
            try:
                await forget_idle(engine, clock(), after_days)
            except Refusal as refusal:
                log.debug("names not forgotten", code=refusal.code)
        await asyncio.sleep(EVERY_S)


async def forget_idle(engine: AsyncEngine, now_ms: int, after_days: int) -> int:
    """Erase the names of those who were last seen more than so many days ago; returns how many."""
    before_ms = now_ms - after_days * DAY_MS
    async with reading(engine) as connection:
        tenants = await tenant_ids(connection)
    forgotten = 0
    for tenant in tenants:
        async with reading(engine) as connection:
            if not await _idle(connection, tenant, before_ms):
                continue
        async with writing(engine) as connection:
            await lock_tenant(connection, tenant)
            await freezing.alone(connection)  # nobody is named or sits down between the look and the erasure
            idle = await _idle(connection, tenant, before_ms)
            await people.forget_all(connection, tenant, idle)
            detail = {"people": len(idle), "idle_since_ms": before_ms}
            await audit.append(
                connection, at_ms=now_ms, actor=_ACTOR, action="people.forget", tenant=tenant, detail=detail
            )
        forgotten += len(idle)
    if forgotten:
        log.info("names forgotten", count=forgotten)
    return forgotten


async def _idle(connection: AsyncConnection, tenant: str, before_ms: int) -> set[str]:
    named = await people.named(connection, tenant)
    if not named:
        return set()
    seen = await persons_since(connection, tenant, before_ms)
    return named - seen - await named_since(connection, tenant, before_ms)
