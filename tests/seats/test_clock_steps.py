"""A clock that was set forward opens an epoch; a call that merely came late does not."""

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from seatd.model import Refusal
from tests.seats.plane import plane, policy
from tests.valkey import ValkeyServer

STEP_MS = 5_000


async def test_a_step_forward_opens_an_epoch_once(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy(cap=5)) as made:
        held = await made.acquire("ana")
        assert made.opened == [0]
        made.watched.options = replace(made.watched.options, clock_offset_ms=STEP_MS)
        made.store.options = made.watched.options
        await asyncio.gather(*(made.acquire(f"u{n}") for n in range(4)))
        assert made.opened == [0, 0]
        assert (await made.store.look(0)).epoch == 2
        await made.renew(held)
        assert made.opened == [0, 0]


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


async def test_a_call_that_came_late_opens_nothing() -> None:
    server = ValkeyServer()
    server.start()
    try:
        async with plane(server, policy(), timeout_ms=5_000) as made:
            held = await made.acquire("ana")
            assert server.process is not None
            os.kill(server.process.pid, signal.SIGSTOP)
            late = asyncio.create_task(made.renew(held))
            await asyncio.sleep(0.8)
            os.kill(server.process.pid, signal.SIGCONT)
            assert (await late).lease == held.lease
            assert made.opened == [0]
    finally:
        server.remove()


async def test_an_answer_and_a_call_that_are_both_slow_open_nothing(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with plane(valkey, policy(), timeout_ms=5_000) as made:
        held = await made.acquire("ana")
        exchange = made.watched._exchange
        slow_there, slow_back = 0.0, 0.4  # neither as long as Q, both together longer

        async def slowly(commands: Sequence[bytes]) -> list[Any]:
            await asyncio.sleep(slow_there)
            replies: list[Any] = await exchange(commands)
            await asyncio.sleep(slow_back)
            return replies

        monkeypatch.setattr(made.watched, "_exchange", slowly)
        await made.renew(held)
        slow_there, slow_back = 0.4, 0.0
        trips = len(made.watched.trips)
        await made.renew(held)
        assert len(made.watched.trips) == trips + 1  # not even asked twice
        assert made.opened == [0]


async def test_a_way_longer_than_q_tells_nothing_of_the_time(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with plane(valkey, policy(cap=5), timeout_ms=5_000) as made:
        exchange = made.watched._exchange

        async def slowly(commands: Sequence[bytes]) -> list[Any]:
            await asyncio.sleep(0.7)
            replies: list[Any] = await exchange(commands)
            return replies

        await made.acquire("ana")
        made.watched._last.clear()
        monkeypatch.setattr(made.watched, "_exchange", slowly)
        await made.acquire("bob")
        assert not made.watched._last  # else a step of nearly as long would go by unseen


async def test_a_clock_that_falls_opens_nothing(valkey: ValkeyServer) -> None:
    async with plane(valkey, policy()) as made:
        held = await made.acquire("ana")
        made.watched.options = replace(made.watched.options, clock_offset_ms=-STEP_MS)
        try:
            again = await made.renew(held)
        except Refusal as refusal:
            raise AssertionError from refusal
        assert again.expires_ms >= held.expires_ms
        assert made.opened == [0]
