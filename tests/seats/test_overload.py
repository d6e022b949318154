"""Too much at once: who is refused, in which order, and what clients are asked for before anybody is."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatd.model import TTL_MS_MAX, TTL_MS_MIN, Refusal
from seatd.seats import batch, load
from tests.seats.plane import Plane, plane, policy
from tests.valkey import ValkeyServer


@asynccontextmanager
async def standing_still(valkey: ValkeyServer, made: Plane) -> AsyncIterator[None]:
    """The store answers nothing; one acquire is on its way to it, so that whatever comes next waits."""
    assert valkey.process is not None
    valkey.process.send_signal(signal.SIGSTOP)
    try:
        first = asyncio.create_task(made.acquire("first"))
        while not made.watched.under_way:
            await asyncio.sleep(0)
        yield
    finally:
        valkey.process.send_signal(signal.SIGCONT)
    await first


def refused(answers: list[object]) -> list[str]:
    return [answer.code for answer in answers if isinstance(answer, Refusal)]


async def test_acquires_that_waited_too_long_are_refused_and_nothing_else(valkey, monkeypatch):
    monkeypatch.setitem(batch.AGE_MAX_S, "acquire", 0.1)
    async with plane(valkey, policy(cap=1_000)) as made:
        leases = [await made.acquire(f"user{n}") for n in range(40)]
        async with standing_still(valkey, made):
            acquires = [asyncio.create_task(made.acquire(f"late{n}")) for n in range(30)]
            renewals = [asyncio.create_task(made.renew(lease)) for lease in leases[:20]]
            releases = [asyncio.create_task(made.release(lease)) for lease in leases[20:]]
            await asyncio.sleep(0.25)
            with pytest.raises(Refusal, match="busy"):  # at once: those before it will not be served either
                async with asyncio.timeout(0.05):
                    await made.acquire("later still")
        assert refused(await asyncio.gather(*acquires, return_exceptions=True)) == ["busy"] * 30
        assert refused(await asyncio.gather(*renewals, *releases, return_exceptions=True)) == []
        assert (await made.acquire("again")).created
        assert (await made.seats.fullness("acme")).in_use == 22


async def test_renewals_that_nobody_waits_for_any_more_are_refused_at_last(valkey, monkeypatch):
    monkeypatch.setitem(batch.AGE_MAX_S, "renew", 0.1)
    async with plane(valkey, policy(cap=50)) as made:
        leases = [await made.acquire(f"user{n}") for n in range(6)]
        async with standing_still(valkey, made):
            renewals = [asyncio.create_task(made.renew(lease)) for lease in leases[:3]]
            releases = [asyncio.create_task(made.release(lease)) for lease in leases[3:]]
            await asyncio.sleep(0.25)
        assert refused(await asyncio.gather(*renewals, return_exceptions=True)) == ["busy"] * 3
        assert refused(await asyncio.gather(*releases, return_exceptions=True)) == []


async def test_where_the_queue_is_full_acquires_make_room(valkey, monkeypatch):
    async with plane(valkey, policy(cap=50)) as made:
        leases = [await made.acquire(f"user{n}") for n in range(12)]
        monkeypatch.setattr(batch, "QUEUE_MAX", 10)
        async with standing_still(valkey, made):
            acquires = [asyncio.create_task(made.acquire(f"late{n}")) for n in range(12)]
            await asyncio.sleep(0.02)
            renewals = [asyncio.create_task(made.renew(lease)) for lease in leases[:6]]
            await asyncio.sleep(0.02)
            releases = [asyncio.create_task(made.release(lease)) for lease in leases[6:]]
            await asyncio.sleep(0.05)
        assert len(refused(await asyncio.gather(*acquires, return_exceptions=True))) == 12
        assert refused(await asyncio.gather(*renewals, *releases, return_exceptions=True)) == []


async def test_the_oldest_that_waits_shows_the_load(valkey):
    async with plane(valkey, policy(cap=50)) as made:
        await made.acquire("ana")
        assert made.seats.waited_s() == 0
        async with standing_still(valkey, made):
            waiting = asyncio.create_task(made.acquire("bob"))
            await asyncio.sleep(0.2)
            assert 0.1 < made.seats.waited_s() < 0.7
        await waiting


async def test_renewals_are_put_off_before_anything_is_refused(valkey, monkeypatch):
    monkeypatch.setattr(load, "LOOK_EVERY_S", 0.01)
    async with plane(valkey, policy(cap=50, ttl_ms=100_000)) as made:
        lease = await made.acquire("ana")
        assert 30_000 <= lease.renew_after_ms <= 33_000
        looking = asyncio.create_task(load.look_for_ever(lambda: 2 * load.LATE_S))
        await asyncio.sleep(0.1)
        assert 45_000 <= (await made.renew(lease)).renew_after_ms < 50_000
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        assert 30_000 <= (await made.renew(lease)).renew_after_ms <= 33_000


@given(ttl_ms=st.integers(TTL_MS_MIN, TTL_MS_MAX), share=st.floats(-1, 2))
def test_a_renewal_is_always_due_before_half_of_the_ttl(ttl_ms, share):
    load.note(share)
    try:
        assert 0.29 * ttl_ms <= load.renew_after_ms(ttl_ms) < ttl_ms / 2
    finally:
        load.note(0)


def test_a_herd_is_spread():
    renewals = {load.renew_after_ms(300_000) for _ in range(500)}
    assert len(renewals) > 300
    assert max(renewals) - min(renewals) > 6_000
    retries = [load.retry_after_ms(1_000) for _ in range(500)]
    assert 500 <= min(retries) < 600 < 1_400 < max(retries) < 1_500
