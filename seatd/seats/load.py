"""How loaded this process is, and what its clients are asked for because of it: renewals later, retries apart.

Decides when renewals are put off, which is before anything is refused, and how far, which is always below half a ttl.
What is refused under load the batcher decides.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

LOOK_EVERY_S: Final = 0.5
BUSY_FROM: Final = 0.7
BUSY_WHOLLY: Final = 0.95
"""Between these shares of a processor renewals are put off further and further."""
LATE_S: Final = 0.1
"""Whoever waits so long for the store shows that it is loaded, however little is done here."""
EARLIEST: Final = 0.30
SPREAD: Final = 0.03
PUT_OFF: Final = 0.15
"""Shares of a ttl: after the first a client renews, up to the second later by chance, up to the third later under load."""

_share = 0.0


def renew_after_ms(ttl_ms: int) -> int:
    """Tell when to renew a lease of this ttl: below half of it, and not at the same instant as everybody else."""
    return int(ttl_ms * (EARLIEST + SPREAD * random.random() + PUT_OFF * _share))  # noqa: S311 - no secret


def retry_after_ms(about_ms: int) -> int:
    """Tell when to try again: about then, and not at the same instant as everybody else."""
    return about_ms // 2 + random.randrange(about_ms)  # noqa: S311 - no secret


def note(share: float) -> None:
    """Note how loaded this process is, from 0 to 1."""
    global _share  # noqa: PLW0603 - a process has one load
    _share = min(max(share, 0.0), 1.0)


async def look_for_ever(waited_s: Callable[[], float]) -> None:
    """Look now and then at this process's work and at how long the oldest waits for the store, until cancelled."""
    busy = 0.0
    try:
        while True:
            before_s, worked_s = time.monotonic(), time.process_time()
            await asyncio.sleep(LOOK_EVERY_S)
            share = (time.process_time() - worked_s) / (time.monotonic() - before_s)
            busy = (busy + share) / 2
            note(1.0 if waited_s() > LATE_S else (busy - BUSY_FROM) / (BUSY_WHOLLY - BUSY_FROM))
    finally:
        note(0.0)
