"""One seat of an asyncio program: what happens between taking it and giving it back.

The shell around `lease`: asks it what to do, does it, and tells it what came of it.  Decides about
tasks, and about who gives what back on the way out; never about instants, retries or belief.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

from seatd_client import wire
from seatd_client.connection import Connection
from seatd_client.errors import AddonNotNamed, ConnectionFailed, SeatError, Transient
from seatd_client.frames import Push
from seatd_client.lease import Lease
from seatd_client.line import Line, Standing
from seatd_client.notices import LOG, Callbacks, Notices
from seatd_client.states import BELIEVING, State, Step
from seatd_client.waiting import Clock, Sleep, sleep_until, within

T = TypeVar("T")


class Lost:
    """Tells that a seat is lost; `await` it for the reason.  Giving a seat back never sets it."""

    def __init__(self, lease: Lease, clock: Clock) -> None:
        """Watch `lease`."""
        self._lease = lease
        self._clock = clock
        self._event = asyncio.Event()

    def is_set(self) -> bool:
        """Tell whether the seat is lost, by the clock even where no timer has run yet."""
        overdue = self._lease.state in BELIEVING and not self._lease.believes(self._clock())
        return overdue or self._event.is_set()

    async def wait(self) -> str:
        """Wait until the seat is lost; returns the reason."""
        await self._event.wait()
        return self._lease.reason or "unknown"

    def __await__(self) -> Generator[Any, None, str]:
        return self.wait().__await__()

    def look(self) -> None:
        """Wake who waits, if the seat has been lost."""
        if self._lease.state is State.LOST:
            self._event.set()


class Seat:
    """One seat: taken by `async with`, renewed in the background, given back on the way out.

    Entering raises `NoSeat`, `SeatElsewhere`, `NotNamed` and the other `SeatError`s of an acquire.
    Losing the seat raises nothing: ask `held`, await `lost`, or pass callbacks.
    """

    def __init__(
        self, connection: Connection, wish: wire.Acquire, callbacks: Callbacks, line: Line | None = None
    ) -> None:
        """Make the seat that `SeatClient.seat` returns."""
        self._connection = connection
        self._clock = connection.clock
        self._wish = self._sent = wish
        self._lease = Lease(random.Random(), connection.patience, line)  # noqa: S311 - spreads load, guards nothing
        self._notices = Notices(callbacks)
        self._driver: asyncio.Task[None] | None = None
        self._asking = False
        self._sleep = Sleep(connection.clock)
        self.lost = Lost(self._lease, self._clock)

    @property
    def held(self) -> bool:
        """Tell whether the user may work now."""
        return self._lease.believes(self._clock())

    @property
    def left_ms(self) -> int:
        """Tell for how many milliseconds the seat is held if no renewal succeeds any more."""
        return max(self._lease.deadline_ms - self._clock(), 0) if self.held else 0

    @property
    def state(self) -> State:
        """Tell where the seat stands; `held` is what decides."""
        return self._lease.state

    @property
    def reason(self) -> str | None:
        """Tell why the seat was lost, or None."""
        return self._lease.reason

    @property
    def error(self) -> SeatError | None:
        """Tell what went wrong last, since the last success."""
        return self._lease.error

    @property
    def standing(self) -> Standing | None:
        """Tell where the wait for a seat stands; None where nobody waits, or nothing is known yet."""
        return self._lease.standing

    @property
    def grant(self) -> wire.Grant | None:
        """Tell what the server granted: lease, tariff, add-ons; None before."""
        return self._lease.grant

    @property
    def proof(self) -> str | None:
        """Give the proof of the seat that was asked for, as of its acquire; None before, or without."""
        return self._lease.grant.proof if self._lease.grant else None

    def hear(self, push: Push) -> None:
        """Take what the server said unasked, if it is about this seat."""
        now_ms, latest = self._clock(), self._lease.latest
        if push.kind == "granted":
            if push.user in {None, self._wish.user} and push.client in {None, self._wish.client}:
                self._lease.called(now_ms)
        elif latest is None or push.lease not in {None, latest.lease}:
            return
        elif push.kind == "renew":
            self._lease.renew_by(now_ms, push.within_ms or 0)
        elif push.kind == "revoked" and push.lease is not None:
            self._lease.ended(now_ms, push.reason or "unknown")
        self._sleep.wake()
        self._publish()

    async def addon(self, product: str) -> bool:
        """Ask the server whether the user may use an add-on; raises `SeatError` where it cannot tell."""
        if self._lease.latest is None:
            raise ConnectionFailed("no seat was taken yet")
        try:
            await self._ask(
                self._clock() + self._connection.patience.answer_ms,
                self._connection.transport.addon(self._lease.latest.lease, product),
            )
        except AddonNotNamed:
            return False
        return True

    async def __aenter__(self) -> Seat:  # noqa: PYI034 - typing.Self is younger than our oldest Python
        if self._driver is not None:
            raise RuntimeError("a seat is entered once; make another with SeatClient.seat")
        await self._connection.join(self.hear)
        self._driver = asyncio.ensure_future(self._take())
        try:
            await asyncio.shield(self._driver)
        except BaseException:
            await self._leave()
            raise
        if self._lease.state is State.REFUSED:
            await self._leave()
            raise self._lease.error or ConnectionFailed("no answer")
        self._driver = asyncio.ensure_future(self._drive())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def _take(self) -> None:
        while self._lease.state not in BELIEVING and await self._advance():
            pass

    async def _drive(self) -> None:
        while await self._advance():
            pass

    async def _advance(self) -> bool:
        """Do what is next; returns False when nothing will be."""
        now_ms = self._clock()
        self._lease.tick(now_ms)
        self._publish()
        step = self._lease.step(now_ms)
        if step is Step.ACQUIRE:
            await self._acquire(now_ms)
        elif step is Step.RENEW:
            await self._renew(now_ms)
        elif step is Step.WAIT:
            await self._sleep.until(self._lease.wake_ms())
        self._publish()
        return step is not Step.OVER

    async def _acquire(self, now_ms: int) -> None:
        number = self._lease.acquire_sent(now_ms)
        try:
            grant = await self._ask(self._lease.answer_by_ms(now_ms), self._wished())
        except SeatError as error:
            self._lease.acquire_failed(number, self._clock(), error)
        else:
            if self._lease.granted(number, self._clock(), grant):
                self._connection.ttl_ms = grant.ttl_ms

    async def _wished(self) -> wire.Grant:
        line = self._lease.line
        if line is not None and not line.knows_server:
            line.server_can(await self._connection.transport.features())
        self._sent = self._lease.wish(self._wish)
        return await self._connection.transport.acquire(self._sent)

    async def _renew(self, now_ms: int) -> None:
        latest = self._lease.latest
        if latest is None:
            raise RuntimeError("a renewal without a lease")
        number = self._lease.renew_sent(now_ms)
        self._publish()
        work = self._connection.transport.renew(latest.lease, latest.receipt)
        try:
            renewal = await self._ask(self._lease.answer_by_ms(now_ms), work)
        except SeatError as error:
            self._lease.renew_failed(number, self._clock(), error)
        else:
            if self._lease.renewed(number, self._clock(), renewal):
                self._connection.ttl_ms = renewal.ttl_ms

    async def _ask(self, until_ms: int, work: Coroutine[Any, Any, T]) -> T:
        self._asking = True
        try:
            return await within(self._clock, until_ms, work)
        except (SeatError, asyncio.CancelledError):
            raise
        except Exception as error:  # whatever a transport stumbles over, the seat lives on to its deadline
            LOG.exception("a request of the seat failed unexpectedly")
            raise ConnectionFailed(f"{type(error).__name__}: {error}") from error
        finally:
            self._asking = False

    def _publish(self) -> None:
        self._notices.publish(self._lease)
        self.lost.look()

    async def _leave(self) -> None:
        """Stop believing, then give everything back: the seat, the callbacks, the connection."""
        try:
            await self._hear_out()
            self._lease.stop()
            await self._end_driver()
            await self._release()
            await self._notices.close(self._connection.patience.release_ms)
        finally:
            if self._driver is not None:
                self._driver.cancel()
            await self._connection.leave(self.hear)

    async def _hear_out(self) -> None:
        # Whoever is cancelled while an acquire is under way would leave a seat taken for nobody.  One that
        # waits in line is not answered soon: the server hears of our going, or sees the connection close.
        self._lease.ask_no_more()
        if self._driver is None or not self._asking or self._lease.state is not State.ACQUIRING:
            return
        if self._sent.wait_ms is None or await self._connection.transport.leave(self._sent):
            await asyncio.wait({self._driver}, timeout=self._connection.patience.release_ms / 1000)

    async def _end_driver(self) -> None:
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.wait({self._driver})

    async def _release(self) -> None:
        latest = self._lease.latest
        if latest is None or not self._lease.owes_release:
            return
        until_ms = self._clock() + self._connection.patience.release_ms
        while not await self._given_back(latest, until_ms):
            if self._clock() >= until_ms:
                LOG.warning("the seat was not given back in time; it frees itself when its lease expires")
                return
            await sleep_until(self._clock, min(self._clock() + self._connection.patience.pause_ms, until_ms))

    async def _given_back(self, latest: wire.Renewal, until_ms: int) -> bool:
        """Send one release; returns False where another may do better."""
        try:
            await self._ask(until_ms, self._connection.transport.release(latest.lease, latest.receipt))
        except Transient:
            return False
        except SeatError as error:
            LOG.warning("the server did not take the seat back: %s", error)
        return True
