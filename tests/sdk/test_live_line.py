"""Waiting in line at a real seatd, over HTTP and over its channel: first come first served, whatever restarts."""

import asyncio
import sys
import time
from typing import Any

import pytest
from seatd_client import Callbacks, NoSeat, Patience, SeatClient
from seatd_client.clock import boottime_ms
from seatd_client.preferring import PreferringTransport
from seatd_client.redial import Pauses
from seatd_client.transport import HttpTransport
from seatd_client.wire import Writer

from tests.sdk import hold
from tests.sdk.seats import until

PATIENCE = Patience(acquire_ms=5_000, answer_ms=2_000, release_ms=1_000, pause_ms=100)
SOON = Pauses(first_ms=0, soon_ms=200, most_ms=400)
WAYS = pytest.mark.parametrize("way", ["http", "channel"])


def leases(server, tenant):
    return server.admin("GET", f"/v1/tenants/{tenant}/leases").body["items"]


class Desk:
    """One user at a desk: takes a seat, maybe waits for it, and leaves when told to."""

    def __init__(self, server, key, user, way="http", wait_s=60):
        http = HttpTransport(server.url, Writer(key))
        transport: Any = PreferringTransport(http, boottime_ms, SOON) if way == "channel" else http
        self.transport = transport
        self.client = SeatClient(
            server.url, key, client=f"desk-{user}", patience=PATIENCE, transport=transport
        )
        self.way = way
        self.told: list[Any] = []
        callbacks = Callbacks(on_waiting=self.told.append)
        self.seat = self.client.seat(user=user, wait_s=wait_s, callbacks=callbacks)
        self.seated_s = 0.0
        self._leave = asyncio.Event()
        self.life: Any = None

    async def __aenter__(self):
        await self.client.__aenter__()
        if self.way == "channel":
            await until(lambda: self.transport.channel_open)
        return self

    async def __aexit__(self, *_error):
        if self.life is not None and not self.life.done():
            self.life.cancel()
            await asyncio.wait({self.life})
        await self.client.__aexit__(None, None, None)

    def sit(self):
        self.life = asyncio.ensure_future(self._live())
        return self

    async def _live(self):
        async with self.seat:
            self.seated_s = time.monotonic()
            await self._leave.wait()

    async def leaves(self):
        self._leave.set()
        await self.life

    async def seated(self, within_s=10.0):
        await until(lambda: self.seat.held or self.life.done(), within_s)
        assert self.seat.held

    async def stands_at(self, position, within_s=10.0):
        await until(lambda: self.told and self.told[-1].position == position, within_s)


@WAYS
async def test_whoever_came_first_sits_first_as_soon_as_a_seat_falls_free(seatd, way):
    key = seatd.tenant(f"line-{way}", tariff="team", seats=1, lease_ttl_ms=300_000)
    async with (
        Desk(seatd, key, "ana", way) as ana,
        Desk(seatd, key, "bea", way) as bea,
        Desk(seatd, key, "cem", way) as cem,
    ):
        await ana.sit().seated()
        await bea.sit().stands_at(1)
        await cem.sit().stands_at(2)
        with pytest.raises(NoSeat):
            await SeatClient(seatd.url, key, client="desk-dan").seat(user="dan").__aenter__()
        for goes, comes in ((ana, bea), (bea, cem)):
            await asyncio.sleep(0.3)
            await goes.leaves()
            left_s = time.monotonic()
            await comes.seated(2)
            assert comes.seated_s - left_s < 1
            assert len(leases(seatd, f"line-{way}")) == 1
        await cem.leaves()
    assert leases(seatd, f"line-{way}") == []


@WAYS
async def test_whoever_gives_up_is_out_of_the_line_at_once(seatd, way):
    key = seatd.tenant(f"line-leave-{way}", tariff="team", seats=1, lease_ttl_ms=300_000)
    async with (
        Desk(seatd, key, "ana", way) as ana,
        Desk(seatd, key, "bea", way) as bea,
        Desk(seatd, key, "cem", way) as cem,
    ):
        await ana.sit().seated()
        await bea.sit().stands_at(1)
        await cem.sit().stands_at(2)
        bea.life.cancel()
        await asyncio.wait({bea.life})
        await asyncio.sleep(0.3)
        await ana.leaves()
        left_s = time.monotonic()
        await cem.seated()
        assert cem.seated_s - left_s < 1.5, "nobody waits for who has gone"
        assert [lease["user"] for lease in leases(seatd, f"line-leave-{way}")] == ["cem"]
        await cem.leaves()


async def test_a_seat_that_was_waited_for_is_held_however_short_its_ttl(seatd):
    key = seatd.tenant("line-short", tariff="team", seats=1, lease_ttl_ms=2_000)
    async with Desk(seatd, key, "ana") as ana, Desk(seatd, key, "bea") as bea:
        await ana.sit().seated()
        bea.sit()
        await asyncio.sleep(5)  # polls are longer than the ttl by now
        assert ana.seat.held
        await ana.leaves()
        await bea.seated(2)
        await asyncio.sleep(2.5)
        assert bea.seat.held
        await bea.leaves()


async def test_a_wait_that_is_over_tells_the_place_in_line(seatd):
    key = seatd.tenant("line-over", tariff="team", seats=1, lease_ttl_ms=300_000)
    async with Desk(seatd, key, "ana") as ana:
        await ana.sit().seated()
        began = time.monotonic()
        with pytest.raises(NoSeat) as caught:
            await SeatClient(seatd.url, key, client="d").seat(user="bea", wait_s=1.5).__aenter__()
        assert 1.4 < time.monotonic() - began < 4
        assert (caught.value.position, caught.value.in_use) == (1, 1)
        await ana.leaves()


@pytest.mark.parametrize(("way", "fault"), [("http", "kill"), ("channel", "stop")])
async def test_the_line_stands_whatever_restarts(new_seatd, way, fault):
    server = new_seatd()
    await asyncio.to_thread(server.start)
    key = server.tenant("line-restart", tariff="team", seats=1, lease_ttl_ms=30_000)
    async with (
        Desk(server, key, "ana", way) as ana,
        Desk(server, key, "bea", way) as bea,
        Desk(server, key, "cem", way) as cem,
    ):
        await ana.sit().seated()
        await bea.sit().stands_at(1)
        await cem.sit().stands_at(2)
        await asyncio.to_thread(getattr(server, fault))
        await asyncio.to_thread(server.start)
        await asyncio.sleep(2)  # longer than anybody in line pauses
        assert ana.seat.held
        assert not bea.seat.held
        assert not cem.seat.held
        await ana.leaves()
        # A release that SQL is too busy to note in time frees the seat with the lease only, 30 s later.
        await bea.seated(45)
        assert not cem.seat.held
        await bea.leaves()
        await cem.seated(45)
        await cem.leaves()
    assert leases(server, "line-restart") == []


@pytest.mark.skipif(sys.platform == "win32", reason="speaks of signals")
async def test_hold_waits_in_line(seatd):
    key = seatd.tenant("line-hold", tariff="team", seats=1, lease_ttl_ms=300_000)
    async with Desk(seatd, key, "ana") as ana:
        await ana.sit().seated()
        line = ["--client", "d", "--wait", "30", "--", "echo", "ran"]
        process = await hold.start(seatd.url, *line, user="bea", SEATD_CLIENT_KEY=key)
        said = (await asyncio.wait_for(process.stderr.readline(), 10)).decode()
        assert said.startswith("seatd: every seat is taken (1 of 1): waiting, place 1 of 1")
        await ana.leaves()
        code, out, _ = await hold.ended(process)
    assert (code, out) == (0, "ran\n")
