"""Virtual time and the network: a heap of what happens when, and messages that are late, lost, doubled or cut.

A process is a generator that yields effects; an effect is a function that is given `resume` and calls it
later, once, with the outcome.  All chance comes from one `random.Random`, so a seed replays everything.
"""

import heapq
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

Resume = Callable[[Any], None]
Effect = Callable[[Resume], None]
Process = Generator[Effect, Any, None]
Reply = Callable[[Any], None]

TIMEOUT = ["timeout"]


class Loop:
    """What happens when; instants are host milliseconds."""

    def __init__(self) -> None:
        self.now = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: int, what: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._heap, (max(when, self.now), self._count, what, args))

    def run(self, until: int) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, what, args = heapq.heappop(self._heap)
            what(*args)
        self.now = max(self.now, until)

    def spawn(self, process: Process, alive: Callable[[], bool] = lambda: True) -> None:
        """Run a process until it ends or is no longer alive."""

        def step(value: Any) -> None:
            if not alive():
                process.close()
                return
            try:
                effect = process.send(value)
            except StopIteration:
                return
            effect(step)

        step(None)

    def sleep(self, ms: int) -> Effect:
        return lambda resume: self.at(self.now + ms, resume, None)


@dataclass(frozen=True)
class Link:
    """How bad a connection is: chances in thousandths, times in milliseconds."""

    usual_ms: int = 20
    slow: int = 30
    slow_ms: int = 1_500
    lost: int = 15
    reply_lost: int = 30
    doubled: int = 30
    copy_ms: int = 2_500
    dark: int = 300  # after a lost reply the link goes dark


class Network:
    """Carries requests and replies."""

    def __init__(self, loop: Loop, rng: random.Random) -> None:
        self.loop = loop
        self.rng = rng
        self.dark_until: dict[str, int] = {}

    def _chance(self, thousandths: int) -> bool:
        return thousandths > 0 and self.rng.random() * 1000 < thousandths

    def _delay(self, link: Link) -> int:
        if self._chance(link.slow):
            return int(self.rng.uniform(link.usual_ms, link.slow_ms))
        return int(self.rng.random() * link.usual_ms)

    def dark(self, who: str) -> bool:
        return self.loop.now < self.dark_until.get(who, 0)

    def darken(self, who: str, ms: int) -> None:
        self.dark_until[who] = max(self.dark_until.get(who, 0), self.loop.now + ms)

    def ask(
        self,
        who: str,
        link: Link,
        handler: Callable[[Reply], None],
        timeout_ms: int,
        *,
        copy_ms: int | None = None,
    ) -> Effect:
        """Send a request and wait for its reply; a request may run twice, late, or with its reply lost."""
        loop = self.loop

        def effect(resume: Resume) -> None:
            done = False

            def finish(value: Any) -> None:
                nonlocal done
                if not done:
                    done = True
                    resume(value)

            def reply(value: Any) -> None:
                if self._chance(link.reply_lost):
                    if self._chance(link.dark):
                        self.darken(who, self.rng.randint(500, 12_000))
                elif not self.dark(who):
                    loop.at(loop.now + self._delay(link), finish, value)

            if not self.dark(who) and not self._chance(link.lost):
                loop.at(loop.now + self._delay(link), handler, reply)
                if self._chance(link.doubled):
                    late = self.rng.randint(0, link.copy_ms if copy_ms is None else copy_ms)
                    loop.at(loop.now + late, handler, lambda _: None)
            loop.at(loop.now + timeout_ms, finish, TIMEOUT)

        return effect
