"""Who waits for a seat at this seatd: one look a tick for all of them, and the wait of one request.

Decides when a waiter asks again: when a seat was offered to it, when its tenant changed, when the line lost it, when its
time is over.  Who is first, and to whom a seat is offered, the scripts decide.  Knows neither receipts nor HTTP: whether
a caller has gone it is told by a function, what asking and withdrawing mean by others.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from seatd.model import Refusal
from seatd.seats.model import Lease
from seatd.seats.store import Answer, UnopenedError
from seatd.telemetry import log

TICK_S: Final = 0.05
SEEN_EVERY_S: Final = 2.0
SEEN_MAX: Final = 256
POLL_MAX_MS: Final = 60_000
"""The longest that one request waits; whoever wants to wait longer asks again with its place."""

Gone = Callable[[], bool]
"""Tells whether the caller has gone, so that nobody would hear of a seat."""
Ask = Callable[[bool], Coroutine[Any, Any, Lease]]
"""Acquire; True where it is the last time.  Raises `Refusal` `no_seat`, with a `place` where the caller stands in line."""
Withdraw = Callable[[Lease], Coroutine[Any, Any, object]]
"""Take a new lease back that nobody was told of."""
Look = Callable[[str, str, list[str]], Awaitable[Answer]]
"""Run the line script for a tenant: `wait` or `leave`, and users."""


@dataclass(eq=False, slots=True)
class Waiter:
    """One request that waits; `turn` is set when it is to look up."""

    tenant: str
    user: str
    gone: Gone
    turn: asyncio.Event = field(default_factory=asyncio.Event)


class Line:
    """Those who wait here, by tenant and user."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._waiting: dict[str, dict[str, list[Waiter]]] = {}
        self._seen_s: dict[tuple[str, str], float] = {}
        self._somebody = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False

    # -- one request ------------------------------------------------------------------------------

    async def wait(
        self, tenant: str, user: str, wait_ms: int, *, ask: Ask, withdraw: Withdraw, gone: Gone
    ) -> Lease:
        """Ask for a seat, and stand in line until there is one, for `wait_ms` and `POLL_MAX_MS` at the most.

        Raises what asking raises.  A caller who goes leaves the line; a seat that it was given is taken back.
        """
        deadline_s = asyncio.get_running_loop().time() + min(wait_ms, POLL_MAX_MS) / 1000
        waiter = Waiter(tenant, user, gone)
        self._register(waiter)
        leaves = True
        try:
            lease = await self._until(waiter, deadline_s, ask, withdraw)
            leaves = False
        except Refusal:
            leaves = gone()
            raise
        finally:
            self._forget(waiter)
            if leaves and user not in self._waiting.get(tenant, {}):
                self._start(self._leave(tenant, user))
        return lease

    async def _until(self, waiter: Waiter, deadline_s: float, ask: Ask, withdraw: Withdraw) -> Lease:
        loop = asyncio.get_running_loop()
        while True:
            last = self._closing or loop.time() >= deadline_s
            waiter.turn.clear()
            try:
                return await self._asked(waiter, ask(last), withdraw)
            except Refusal as refusal:
                if last or refusal.code != "no_seat" or "place" not in refusal.fields:
                    raise
                self._seen_s[waiter.tenant, waiter.user] = loop.time()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline_s):
                        await waiter.turn.wait()
                if waiter.gone():
                    raise

    async def _asked(self, waiter: Waiter, asking: Coroutine[Any, Any, Lease], withdraw: Withdraw) -> Lease:
        """Ask; whatever becomes of the caller meanwhile, no new seat stays with one who has gone."""
        task = self._start(asking)
        try:
            lease: Lease = await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: self._take_back(done, withdraw))
            raise
        if waiter.gone():
            await _taken_back(lease, withdraw)
        return lease

    def _take_back(self, asking: "asyncio.Task[Lease]", withdraw: Withdraw) -> None:
        if not asking.cancelled() and asking.exception() is None:
            self._start(_taken_back(asking.result(), withdraw))

    async def _leave(self, tenant: str, user: str) -> None:
        with contextlib.suppress(
            Refusal, UnopenedError
        ):  # who is not seen any more has left as well, a little later
            await self._look(tenant, "leave", [user])

    def _start(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- all of them ------------------------------------------------------------------------------

    def _register(self, waiter: Waiter) -> None:
        self._waiting.setdefault(waiter.tenant, {}).setdefault(waiter.user, []).append(waiter)
        self._somebody.set()

    def _forget(self, waiter: Waiter) -> None:
        users = self._waiting[waiter.tenant]
        users[waiter.user].remove(waiter)
        if not users[waiter.user]:
            del users[waiter.user]
            self._seen_s.pop((waiter.tenant, waiter.user), None)
        if not users:
            del self._waiting[waiter.tenant]
        if not self._waiting:
            self._somebody.clear()

    async def look_for_ever(self) -> None:
        """Look after those who wait here, tick by tick, until cancelled."""
        while True:
            await self._somebody.wait()
            await asyncio.gather(*(self.look_after(tenant) for tenant in list(self._waiting)))
            await asyncio.sleep(TICK_S)

    async def look_after(self, tenant: str) -> None:
        """Say that a tenant's waiters are still there, and wake those who are to ask again."""
        users = self._waiting.get(tenant)
        if users is None:  # the last one has just been answered
            return
        for waiters in users.values():
            for waiter in waiters:
                if waiter.gone():
                    waiter.turn.set()
        now_s = asyncio.get_running_loop().time()
        stale = [user for user in users if self._seen_s.get((tenant, user), now_s) <= now_s - SEEN_EVERY_S]
        try:
            answer = await self._look(tenant, "wait", stale[:SEEN_MAX])
        except (
            Refusal,
            UnopenedError,
        ) as error:  # the store is away: they wait on, as long as they wanted to
            log.debug("line not looked at", tenant=tenant, error=str(error))
            return
        for user in stale[:SEEN_MAX]:
            if user in users:
                self._seen_s[tenant, user] = now_s
        up = [*answer[2], *answer[3]] if answer[0] == "line" else list(users)
        for user in up:
            for waiter in users.get(user, ()):
                waiter.turn.set()

    def close(self) -> None:
        """Have everybody who waits here ask for the last time: this seatd is about to stop."""
        self._closing = True
        for users in self._waiting.values():
            for waiters in users.values():
                for waiter in waiters:
                    waiter.turn.set()


async def _taken_back(lease: Lease, withdraw: Withdraw) -> None:
    if lease.created:  # else its holder has it from before
        with contextlib.suppress(Refusal):  # then it runs out
            await withdraw(lease)
