"""When to try for a channel again: soon, but not all clients at once.  Sans-IO.

A server that restarts loses all its sockets at one instant, and their clients must not come back at one
instant.  Each pause is drawn at random up to a bound that doubles with every failure in a row.  Where no
channel is to be had, because the server has none or something before it lets none through, HTTP does as
well, and it is looked for again from time to time only.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from seatd_client.errors import SeatError, Transient


class NoChannel(Transient):
    """There is no channel to be had here: the server, the key or something in between is against it."""


@dataclass(frozen=True)
class Pauses:
    """The bounds of pauses, in milliseconds.

    `first_ms` before the first try, so that who takes a seat for a moment opens none.  `soon_ms`
    after a first failure, doubling up to `most_ms`.  `none_ms` where there is no channel, doubling up to
    `none_most_ms`.  A socket that lasted for `steady_ms` is no failure.
    """

    first_ms: int = 1_000
    soon_ms: int = 1_000
    most_ms: int = 60_000
    none_ms: int = 30_000
    none_most_ms: int = 600_000
    steady_ms: int = 60_000


class Redial:
    """One client's tries for a channel."""

    def __init__(self, rng: random.Random, pauses: Pauses | None = None) -> None:
        """Begin; `rng` spreads many clients apart."""
        self._rng = rng
        self._pauses = pauses or Pauses()
        self._failures = 0
        self._refusals = 0
        self._opened_ms = 0

    def first_ms(self) -> int:
        """Tell how long to pause before the first try."""
        return self._rng.randint(0, self._pauses.first_ms)

    def opened(self, now_ms: int) -> None:
        """Note that a channel has opened."""
        self._opened_ms, self._refusals = now_ms, 0

    def lost_ms(self, now_ms: int) -> int:
        """Tell how long to pause after a channel was lost."""
        if now_ms - self._opened_ms >= self._pauses.steady_ms:
            self._failures = 0
        return self._soon_ms()

    def failed_ms(self, error: SeatError) -> int:
        """Tell how long to pause after a try that failed."""
        if isinstance(error, NoChannel) or not isinstance(error, Transient):
            most_ms = min(self._pauses.none_ms << min(self._refusals, 16), self._pauses.none_most_ms)
            self._refusals += 1
            return self._rng.randint(most_ms // 2, most_ms)
        return max(error.retry_after_ms or 0, 0) + self._soon_ms()

    def drained_ms(self, within_ms: int) -> int:
        """Tell how long to pause where the server wants its sockets elsewhere within that time."""
        return self._rng.randint(0, within_ms * 8 // 10)

    def _soon_ms(self) -> int:
        most_ms = min(self._pauses.soon_ms << min(self._failures, 16), self._pauses.most_ms)
        self._failures += 1
        return self._rng.randint(0, most_ms)
