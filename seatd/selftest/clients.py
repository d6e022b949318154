"""A client that behaves badly, in every way that clients do.

Decides what one client sends, sitting after sitting: each ends in the next of `ENDINGS`, whoever sits.  What comes of it is judged
elsewhere; here a refusal only means that the sitting is over.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator

from seatd.selftest.asking import Asking, Held, clock_ns, until
from seatd.selftest.history import MS_NS

PAUSE_S = (0.03, 0.25)
"""Between two tries, and between two renewals: at a ttl of two seconds some get late, most do not."""


class Client:
    """One desk: its users sit one after the other, until the time is up."""

    def __init__(
        self, asking: Asking, number: int, until_ns: int, endings: Iterator["Ending"], rng: random.Random
    ) -> None:
        """Take the next of `endings`, which all clients share, for each sitting."""
        self._asking = asking
        self._endings = endings
        self._number = number
        self._until_ns = until_ns
        self._rng = rng
        self._people = 0
        self._requests = 0
        self._desk = f"desk-{number}"

    async def work(self) -> None:
        """Sit again and again; of every second acquire, each request is sent twice."""
        again = self._number % 2 == 1
        while self._going_on():
            held = await self._seat(f"user-{self._number}-{self._people}", again=again)
            if held is not None:
                held = await self._hold(held, self._rng.randint(1, 4))
            if held is not None:
                await next(self._endings)(self, held)
            again = not again
            await self._pause()

    async def _seat(self, user: str, *, again: bool) -> Held | None:
        """Try until a seat is had; `again`: every request is sent twice at once, and once more when it is answered."""
        while self._going_on():
            request = self._request()
            tries = [self._asking.acquire(user, self._desk, request) for _ in range(1 + again)]
            held = next((one for one in await asyncio.gather(*tries) if one is not None), None)
            if held is not None:
                if again:  # the receipt of the first answer has to be good all the same
                    await self._asking.acquire(user, self._desk, request)
                return held
            await self._pause()
        return None

    async def _hold(self, held: Held, renewals: int) -> Held | None:
        """Renew as a client should; None where the seat is lost."""
        for _ in range(renewals):
            await self._pause()
            renewed = await self._asking.renew(held)
            if renewed is None and not held.left_s():
                return None
            held = renewed or held
        return held

    # The ways to end a sitting.

    async def _release(self, held: Held) -> None:
        """Give the seat back, then come with its receipt again, and give it back again."""
        if await self._asking.release(held):
            await self._asking.renew(held, void="released")
            await self._asking.release(held, void="released")

    async def _crash(self, held: Held) -> None:
        """Say nothing any more, though whoever sits there works on to the last; then somebody else comes."""
        self._people += 1
        await self._sleep_until(held.deadline_ns)

    async def _come_late(self, held: Held) -> None:
        """Renew after the deadline, when the seat may or may not be somebody else's."""
        late_ms = self._rng.randint(0, max(self._asking.history.q_ms * 3, 100))
        await self._sleep_until(held.deadline_ns + late_ms * MS_NS)
        renewed = await self._asking.renew(held)
        if renewed is not None:
            await self._asking.release(renewed)

    async def _acquire_again(self, held: Held) -> None:
        """Acquire anew on the same desk: what was given before is void, and a late release of it ends nothing."""
        newer = await self._asking.acquire(held.user, held.client, self._request(), root=held.root)
        if newer is not None:
            await self._asking.renew(held, void="taken_over")
            await self._asking.release(held, void="taken_over")
            kept = await self._hold(newer, 2)
            if kept is not None:
                await self._release(kept)

    async def _move(self, held: Held) -> None:
        """Take the seat over on another desk, while the first believes in it still."""
        moved = await self._asking.acquire(held.user, f"{held.client}-b", self._request(), takeover=True)
        if moved is not None:
            await self._asking.renew(held, void="taken_over")
            kept = await self._hold(moved, 2)
            if kept is not None:
                await self._asking.release(kept)
        self._people += 1

    async def _be_revoked(self, held: Held) -> None:
        """Go on renewing while the lease is revoked, and after; then somebody else comes."""
        revoking = asyncio.ensure_future(self._asking.revoke(held))
        renewing = await self._hold(held, 3)
        if await revoking is not None:
            await self._asking.renew(renewing or held, void="revoked")
            await self._asking.release(renewing or held, void="revoked")
        self._people += 1

    # How.

    def _going_on(self) -> bool:
        return clock_ns() < self._until_ns

    def _request(self) -> str:
        self._requests += 1
        return f"r-{self._number}-{self._requests}"

    async def _pause(self) -> None:
        await asyncio.sleep(self._rng.uniform(*PAUSE_S))

    async def _sleep_until(self, at_ns: int) -> None:
        await until(min(at_ns, self._until_ns))


Ending = Callable[[Client, Held], Awaitable[None]]
ENDINGS: tuple[Ending, ...] = (
    Client._release,  # noqa: SLF001 - the client's own table
    Client._crash,  # noqa: SLF001
    Client._acquire_again,  # noqa: SLF001
    Client._be_revoked,  # noqa: SLF001
    Client._move,  # noqa: SLF001
    Client._come_late,  # noqa: SLF001
)
