"""The faults: which house each wants, and what is done to it while clients work.

A fault is a coroutine over a running house; it returns when what it broke is whole again.  Instants are drawn from the
history's own dice, so that a seed repeats the schedule.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.desks import Habits
from tests.faults.history import History
from tests.faults.houses import House


@dataclass
class Scene:
    """What a fault needs: the house, dice, and the histories that it happens to."""

    house: House
    rng: random.Random
    histories: list[History]
    counts: Counter[str]

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
    """A row of the table."""

    name: str
    strike: Callable[[Scene], Awaitable[None]]
    house: dict[str, Any] = field(default_factory=dict)
    habits: Habits = field(default_factory=Habits)


async def kill_store(scene: Scene) -> None:
    """kill -9 of a store that fsyncs always; now and then once more while the tenants learn."""
    assert scene.house.store
    for _ in range(scene.rng.choice((1, 1, 2))):
        scene.note("store killed", counted="store kills", lossy=True)
        await asyncio.to_thread(scene.house.store.kill)
        await scene.wait(0, 0.5)
        await scene.house.restart_store()
        await scene.wait(0, 1)


async def kill_seatd(scene: Scene) -> None:
    """kill -9 of seatd; an embedded store dies with it."""
    scene.note("seatd killed", counted="seatd kills")
    await asyncio.to_thread(scene.house.seatd.kill)
    await scene.wait(0, 0.5)
    await scene.house.restart_seatd()


FAULTS = [
    Fault("store killed", kill_store),
    Fault("seatd killed", kill_seatd),
    Fault("seatd and embedded store killed", kill_seatd, {"embedded": True}),
]
