"""The simulated histories of a run, played in a process of their own beside the real ones."""

import asyncio
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

from tests.faults.outcome import Outcome
from tests.sim.run import Row, simulate
from tests.sim.world import FAULTS

PART = 7 * (len(FAULTS) + 1)
"""Histories played before something is told: seven of each fault."""


def _part(histories: int, seed: int) -> list[Row]:
    return simulate(histories, seed)


def _patiently() -> None:
    os.nice(5)  # the real processes have clocks to keep


async def play(histories: int, seed: int, outcome: Outcome, until: float) -> None:
    """Play so many from this seed on, as long as there is time."""
    loop = asyncio.get_running_loop()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_patiently) as pool:
        for first in range(0, histories, PART):
            if time.monotonic() > until:
                return
            outcome.add_simulated(await loop.run_in_executor(pool, _part, PART, seed + first // PART * 7))
