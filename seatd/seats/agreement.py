"""What SQL decided in one epoch is done by no store of another: which of the two is behind, and what then.

A store of an earlier epoch is an old primary: another is looked for.  Where there is none, the later number was taken for an
epoch that never came (whoever took it died), and a new one is opened.  A decision of an earlier epoch is made anew.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from seatd.seats.batch import Batcher, store_unavailable
from seatd.seats.layout import Operation
from seatd.seats.store import Answer

TRIES: Final = 10
PAUSE_S: Final = 0.1
WITHIN_S: Final = 0.5
FORGOTTEN_S: Final = 10.0

Ask = Callable[[str, Operation], Awaitable[Answer]]
Reopen = Callable[[int, int], Awaitable[None]]
"""Open an epoch of a partition where the given one is still open."""


class Agreement:
    """Since when store and SQL have named different epochs, by partition."""

    def __init__(self, batchers: Sequence[Batcher], ask: Ask, reopen: Reopen) -> None:
        self._batchers = batchers
        self._ask = ask
        self._reopen = reopen
        self._differs_since: dict[int, float] = {}

    async def on(self, partition: int, verb: str, decide: Callable[[], Awaitable[Operation]]) -> Answer:
        """Submit what is decided in SQL, and decide anew while the store is in another epoch.

        Raises `Refusal` `store_unavailable` where they do not agree in time, and what `ask` and `decide` raise.
        """
        for _ in range(TRIES):
            answer = await self._ask(verb, await decide())
            if answer[0] != "earlier":
                self.reached(partition)
                return answer
            await self.look_for(partition, answer[1])
        raise store_unavailable()

    def reached(self, partition: int) -> None:
        """Note that they agree."""
        self._differs_since.pop(partition, None)

    async def look_for(self, partition: int, epoch: int) -> None:
        """Have the primary found anew, after a pause; where that has not helped, open an epoch after `epoch`."""
        self._batchers[partition].doubt()
        now, since = time.monotonic(), self._differs_since.get(partition, 0.0)
        if WITHIN_S < now - since < FORGOTTEN_S:
            self.reached(partition)
            await self._reopen(partition, epoch)
            return
        if now - since >= FORGOTTEN_S:
            self._differs_since[partition] = now
        await asyncio.sleep(PAUSE_S)
