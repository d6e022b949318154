"""What all use cases of the account plane have: the engine, the clock, and the zone in which months begin."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from seatd.accounts.changes import Clock, unknown_tenant
from seatd.database.schema import tenants
from seatd.model import invalid, is_id

ZONE_DEFAULT: Final = "Europe/Berlin"

ZoneOf = Callable[[int], Awaitable[str]]
"""Gives the name of the time zone in which months begin for what is decided at an instant."""


def wall_clock_ms() -> int:
    """Give the instant now, in milliseconds since the UTC epoch."""
    return time.time_ns() // 1_000_000


async def default_zone(_at_ms: int) -> str:
    """Give the zone where no price list says another."""
    return ZONE_DEFAULT


def check_ids(**ids: str) -> None:
    """Raise `Refusal("invalid_request")` for the first value that is no id."""
    for field, value in ids.items():
        if not is_id(value):
            raise invalid(field, "must be 1 to 128 characters of A-Z a-z 0-9 . _ @ : + -")


class UseCases:
    """Some use cases over one engine."""

    def __init__(
        self, engine: AsyncEngine, clock: Clock = wall_clock_ms, zone_of: ZoneOf = default_zone
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.zone_of = zone_of

    async def now_of(self, connection: AsyncConnection, tenant: str) -> int:
        """Give the instant now, not before the tenant's latest change; raises `Refusal("not_found")`."""
        query = select(tenants.c.changed_ms).where(tenants.c.id == tenant)
        changed_ms: int | None = (await connection.execute(query)).scalar_one_or_none()
        if changed_ms is None:
            raise unknown_tenant(tenant)
        return max(self.clock(), changed_ms)
