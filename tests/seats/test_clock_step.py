"""A clock of the store that was set forward ends the epoch, however many ask at that moment."""

import asyncio
from dataclasses import replace

from tests.seats.plane import plane, policy
from tests.valkey import ValkeyServer


async def test_a_step_is_noticed_by_those_who_ask_together(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=9)) as made:
        await made.acquire("ana")
        opened = len(made.opened)
        made.watched.options = replace(made.watched.options, clock_offset_ms=60_000)
        first = asyncio.ensure_future(made.acquire("bob"))
        while not made.watched.under_way:
            await asyncio.sleep(0)
        await asyncio.gather(first, made.acquire("cy"), return_exceptions=True)
        assert len(made.opened) == opened + 1
