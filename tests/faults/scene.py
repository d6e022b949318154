"""What a fault is given: the house, dice, and the histories that it happens to; and what it may be to be a fault."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.faults.desks import Habits
from tests.faults.history import History
from tests.faults.houses import TTL_MS, House, Plan


@dataclass
class Scene:
    """One episode, while it runs."""

    house: House
    rng: random.Random
    histories: list[History]
    counts: Counter[str]
    number: int

    def note(self, what: str, *, counted: str = "", lossy: bool = False) -> None:
        """Note what is done now; `counted` in the totals, `lossy` where the store may have forgotten."""
        if counted:
            self.counts[counted] += 1
        for history in self.histories:
            history.note(what)
            history.lossy = history.lossy or lossy

    async def wait(self, low_s: float, high_s: float) -> None:
        await asyncio.sleep(self.rng.uniform(low_s, high_s))


@dataclass(frozen=True)
class Fault:
    """A row of the table; `full` and `short` are the episodes of a whole run and of the short one.

    A `linear` one is small: nothing runs out in it, and whether some order of operations explains it is asked as well.
    """

    name: str
    strike: Callable[[Scene], Awaitable[None]]
    plan: Plan = field(default_factory=Plan)
    habits: Habits = field(default_factory=Habits)
    full: int = 12
    short: int = 1
    linear: bool = False
    ttl_ms: int = TTL_MS
