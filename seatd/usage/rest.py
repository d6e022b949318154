"""How long work had to wait for its processor, and when to rest because of it.

Whoever does long work beside the seats is told by a `Rest` how long to do nothing in between; who shares a processor with
nobody need not rest.  How long is not decided here.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

Rest = Callable[[float, float], float]
"""Tells how long to rest (seconds) after work that took so long, and waited for the processor for such a share of what it used."""


def never(_took_s: float, _waited: float) -> float:
    """Never rest."""
    return 0.0


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Do work that waits for nothing else; gives what it gives, and how long it waited for the processor, as such a share."""
    began_s, began_used_s = time.monotonic(), time.thread_time()
    done = work()
    took_s, used_s = time.monotonic() - began_s, time.thread_time() - began_used_s
    return done, took_s / used_s - 1 if used_s else 0.0
