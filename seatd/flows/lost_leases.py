"""End in the ledger, now and then, what was lost with the seat store and never came back."""

import asyncio
from collections.abc import Callable
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.database.engine import writing
from seatd.model import Refusal
from seatd.telemetry import log
from seatd.usage.lost import end_lost

EVERY_S: Final = 60.0


async def end_for_ever(
    engine: AsyncEngine, clock: Callable[[], int], waiting: Callable[[], int | None]
) -> None:
    """Look every minute, until cancelled; never while events wait, for one of them may be an adoption."""
    while True:
        await asyncio.sleep(EVERY_S)
        if waiting() != 0:
            continue
        try:
            async with writing(engine) as connection:
                ended = await end_lost(connection, clock())
        except Refusal as refusal:
            log.debug("lost leases not ended", code=refusal.code)
            continue
        if ended:
            log.warning("leases that were lost with the store are ended", count=ended)
