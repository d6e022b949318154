"""Waits that know of suspended time: measured on the clock of `clock`, slept in short slices.

An event loop's own timers stop while the machine is suspended, and would come late by as long.
Decides only how to wait; what for and until when is decided by the callers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from seatd_client.errors import ConnectionFailed

SLICE_MS = 1_000
"""The longest sleep between two looks at the clock: how late a wait may end after a suspension."""

Clock = Callable[[], int]
"""Reads an instant in milliseconds."""

T = TypeVar("T")


async def sleep_until(clock: Clock, until_ms: int) -> None:
    """Sleep until the clock says `until_ms`."""
    while (left_ms := until_ms - clock()) > 0:  # noqa: ASYNC110 - a clock sets no event
        await asyncio.sleep(min(left_ms, SLICE_MS) / 1000)


class Sleep:
    """A sleep that can be cut short."""

    def __init__(self, clock: Clock) -> None:
        """Sleep by `clock`."""
        self._clock = clock
        self._woken = False
        self._slice: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """End the sleep, or the next one where nobody sleeps."""
        self._woken = True
        _end(self._slice)

    async def until(self, until_ms: int) -> None:
        """Sleep until the clock says `until_ms`, or until woken."""
        loop = asyncio.get_running_loop()
        while not self._woken and (left_ms := until_ms - self._clock()) > 0:
            self._slice = loop.create_future()
            timer = loop.call_later(min(left_ms, SLICE_MS) / 1000, _end, self._slice)
            try:
                await self._slice
            finally:
                timer.cancel()
        self._woken = False


async def within(clock: Clock, until_ms: int, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` until `until_ms` at most; raises `ConnectionFailed` then, and ends it."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            left_ms = until_ms - clock()
            if left_ms <= 0:
                raise ConnectionFailed("no answer in time")
            await asyncio.wait({task}, timeout=min(left_ms, SLICE_MS) / 1000)
        return task.result()
    finally:
        task.cancel()
        task.add_done_callback(_hear)


def _end(sleep: asyncio.Future[None] | None) -> None:
    if sleep is not None and not sleep.done():
        sleep.set_result(None)


def _hear(task: asyncio.Future[Any]) -> None:
    # A failure that comes after we stopped waiting is nobody's; asyncio would report it as forgotten.
    if not task.cancelled():
        task.exception()
