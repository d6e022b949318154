"""A call centre's day: who comes when, and what goes wrong.

Three customers.  `helpdesk` rents floating seats, fewer than it has people; `backoffice` named ones; `hotline` two
seats with a short lease.  Everybody sits by the SDK.  What is told comes from the server's answers; what should have
been otherwise is noted in `wrong`.
"""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from seatd_client import NoSeat, NotNamed, Patience, Seat, SeatClient, SeatElsewhere, SeatError

from bench.clock import DayClock
from bench.server import AwayError, Server

DESK, BACK, HOT = "helpdesk", "backoffice", "hotline"
TTL_MS, HOT_TTL_MS, LOCK_DELAY_MS = 10_000, 2_000, 500
NAMED = ("ana", "ben", "cem", "dora", "emil", "fay")
SOCIAL = 12
PATIENCE = Patience(acquire_ms=15_000, answer_ms=2_000, release_ms=8_000, pause_ms=100, pause_max_ms=500)
KILL_HOUR = 14.5


@dataclass
class Day:
    """What is going on."""

    server: Server
    clock: DayClock
    tell: Callable[[str], None]
    people: int
    seats: int
    keys: dict[str, str] = field(default_factory=dict)
    sitting: dict[str, Seat] = field(default_factory=dict)
    named: list[Seat] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nobody's short lease would run out if the server were away."""

    def check(self, so: object, otherwise: str) -> None:
        """Note what is not as it should be."""
        if not so:
            self.wrong.append(otherwise)
            self.tell(f"WRONG: {otherwise}")


async def prepare(day: Day, prices: str) -> None:
    """Order what the day needs."""
    server = day.server
    await server.put_prices(prices)
    day.keys[DESK] = await server.tenant(DESK, tariff="team", seats=day.seats, lease_ttl_ms=TTL_MS)
    day.keys[BACK] = await server.tenant(BACK, tariff="agent", seats=len(NAMED), lease_ttl_ms=TTL_MS)
    day.keys[HOT] = await server.tenant(HOT, tariff="team", seats=2, lease_ttl_ms=HOT_TTL_MS)
    for user in NAMED:
        await server.admin("PUT", f"/v1/tenants/{BACK}/bindings/agent/{user}")
    for number in range(min(SOCIAL, day.people)):
        await server.admin("PUT", f"/v1/tenants/{DESK}/bindings/social/{_name(number)}")
    await server.admin("POST", f"/v1/tenants/{DESK}/bookings", {"product": "ocr", "quantity": 1})
    await server.admin(
        "POST", f"/v1/tenants/{DESK}/meter", {"product": "ocr_pages", "quantity": "1500", "id": "scan-1"}
    )


async def live(day: Day) -> None:
    """Live the day through; whoever is still there at the end goes home."""
    async with asyncio.TaskGroup() as group:
        for number in range(day.people):
            group.create_task(_person(day, number))
        group.create_task(_back_office(day))
        group.create_task(_hotline(day))
        group.create_task(_server_dies(day))


def client(day: Day, tenant: str, desk: str) -> SeatClient:
    """Make the client of a desk."""
    return SeatClient(day.server.url, day.keys[tenant], client=desk, patience=PATIENCE)


def _name(number: int) -> str:
    return f"agent-{number:02}"


async def _person(day: Day, number: int) -> None:
    """Sit from the morning to noon and again to the evening, if there is a seat."""
    rng = random.Random(number)
    await day.clock.until(8 + rng.random() * 1.5)
    await _shift(day, number, home=12 + rng.random() * 0.8)
    await day.clock.until(13 + rng.random() * 0.8)
    await _shift(day, number, home=16 + rng.random() * 1.6)


async def _shift(day: Day, number: int, home: float) -> None:
    user = _name(number)
    while day.clock.hour < home:
        seat = client(day, DESK, f"desk-{number:02}").seat(user=user)
        try:
            async with seat:
                day.sitting[user] = seat
                await _sit(day, user, seat, home)
                del day.sitting[user]
        except NoSeat as full:
            _turned_away(day, user, full)
        except SeatError as error:
            day.check(None, f"{user}: {error}")
        else:
            return
        await asyncio.sleep(0.4)


async def _sit(day: Day, user: str, seat: Seat, home: float) -> None:
    leaves = asyncio.ensure_future(day.clock.until(home))
    lost = asyncio.ensure_future(seat.lost.wait())
    await asyncio.wait({leaves, lost}, return_when=asyncio.FIRST_COMPLETED)
    day.check(not lost.done(), f"{user} lost the seat: {seat.reason} ({seat.error})")
    leaves.cancel()
    lost.cancel()


def _turned_away(day: Day, user: str, full: NoSeat) -> None:
    day.check(
        full.capacity == day.seats and full.in_use >= full.capacity,
        f"{user} was refused with {full.in_use} of {full.capacity} seats in use",
    )
    if not day.refused:
        day.tell(f"{user} is refused: {full.in_use} of {full.capacity} seats are taken")
    day.refused.add(user)


async def _back_office(day: Day) -> None:
    """Named seats: who is not named is refused, and one seat cannot serve two desks."""
    await day.clock.until(8.5)
    async with contextlib.AsyncExitStack() as stack:
        first = None
        for user in NAMED:
            seat = await stack.enter_async_context(client(day, BACK, f"{user}-desk").seat(user=user))
            first = first or seat
            day.named.append(seat)
        assert first is not None
        await day.clock.until(9.5)
        try:
            async with client(day, BACK, "zoe-desk").seat(user="zoe"):
                day.check(None, "zoe sits without being named")
        except NotNamed as error:
            day.tell(f"zoe is refused in the back office: not named for {error.product}")
        await day.clock.until(10.5)
        await _moves(day, first)
        await day.clock.until(17)


async def _moves(day: Day, first: Seat) -> None:
    try:
        async with client(day, BACK, "ana-home").seat(user="ana"):
            day.check(None, "ana sits at two desks")
    except SeatElsewhere as error:
        day.tell(f"ana is refused at home: she sits at {error.client}")
    async with client(day, BACK, "ana-home").seat(user="ana", takeover=True):
        reason = await asyncio.wait_for(first.lost.wait(), TTL_MS / 1000)
        day.check(reason == "taken_over", f"ana's first desk was told {reason}")
        day.tell(f"ana takes her seat over at home; the first desk is told: {reason}")
        await day.clock.until(12)


async def _hotline(day: Day) -> None:
    """Crash: a client dies without a word; its seat is free again once it cannot believe in it any more."""
    await day.clock.until(8.2)
    ghost = _start_ghost(day)
    try:
        async with client(day, HOT, "hot-2").seat(user="ida"):
            lease = await _lease_of(day, HOT, "gus")
            await asyncio.sleep(HOT_TTL_MS / 1000)  # it lives longer than its first lease: it renews
            ghost.kill()
            lease = await _lease_of(day, HOT, "gus")
            day.tell("the hotline's gus crashes (kill -9); his seat stays taken until its lease runs out")
            took = await _wait_for_seat(day)
            freed_ms = lease["expires_ms"] + LOCK_DELAY_MS
            day.check(took >= freed_ms, f"the ghost's seat was granted {freed_ms - took} ms too early")
            day.check(took <= freed_ms + 3_000, f"the ghost's seat was free {took - freed_ms} ms late")
            day.tell(f"kim gets the ghost's seat {took - lease['expires_ms']} ms after its lease had run out")
    finally:
        ghost.kill()
        ghost.communicate()  # closes what its program reads, and so ends that too
        day.quiet.set()


async def _wait_for_seat(day: Day) -> int:
    """Try until kim sits; gives the instant of the grant, by the server's clock."""
    while True:
        try:
            async with client(day, HOT, "hot-3").seat(user="kim") as seat:
                assert seat.grant is not None
                return seat.grant.started_ms
        except NoSeat:
            await asyncio.sleep(0.1)


def _start_ghost(day: Day) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "seatd_client", "hold", "--url", day.server.url, "--user", "gus"]
    environ = {**os.environ, "SEATD_CLIENT_KEY": day.keys[HOT]}
    return subprocess.Popen([*command, "--client", "hot-1", "--", "cat"], env=environ, stdin=subprocess.PIPE)


async def _lease_of(day: Day, tenant: str, user: str) -> Any:
    """Wait until a user sits, and give the lease as the server lists it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for lease in (await day.server.admin("GET", f"/v1/tenants/{tenant}/leases"))["items"]:
            if lease["user"] == user:
                return lease
        await asyncio.sleep(0.05)
    raise AwayError(f"{user} does not sit at {tenant}")


async def _server_dies(day: Day) -> None:
    """Kill the server in the afternoon: everybody works on, and it comes back with every lease."""
    await day.clock.until(KILL_HOUR)
    day.clock.stand()
    await day.quiet.wait()
    # Whoever is about to leave may do so meanwhile; what is asked for is that those who stay keep their seats.
    stay = {seat.grant.lease for seat in (*day.sitting.values(), *day.named) if seat.held and seat.grant}
    day.check(stay <= await _leases(day), "the server does not list everybody who sits")
    began = time.monotonic()
    day.server.kill()
    day.tell(f"seatd is killed (kill -9) with {len(stay)} people at work")
    await day.server.start()
    away_ms = int((time.monotonic() - began) * 1000)
    back = stay & await _leases(day)
    day.clock.go_on()
    day.check(back == stay, f"{len(stay - back)} leases did not come back")
    day.tell(f"seatd serves again after {away_ms} ms: {len(back)} of {len(stay)} leases are there")


async def _leases(day: Day) -> set[str]:
    leases: set[str] = set()
    for tenant in (DESK, BACK):
        found = await day.server.admin("GET", f"/v1/tenants/{tenant}/leases?limit=1000")
        leases |= {lease["lease"] for lease in found["items"]}
    return leases
