"""A small day of events, and what tests of the recorder do with it."""

import asyncio
from collections.abc import Callable
from typing import Any

from seatd.model import UsageEvent
from seatd.seats.store import Store
from seatd.usage.recorder import Recorder
from tests.usage import oracle

MakeRecorder = Callable[..., Recorder]


def started(
    seq: int, lease: str, at_ms: int = 1_000, *, user: str = "ana", epoch: int = 1, **more: Any
) -> UsageEvent:
    more = {"tariff": "team", "labels": {"site": "Köln"}} | more
    return UsageEvent(0, epoch, seq, "", "started", "acme", at_ms, lease=lease, user=user, **more)


def ended(
    seq: int, lease: str, at_ms: int = 2_000, *, user: str = "ana", epoch: int = 1, reason: str = "released"
) -> UsageEvent:
    return UsageEvent(0, epoch, seq, "", "ended", "acme", at_ms, lease=lease, user=user, reason=reason)


def denied(seq: int, user: str, at_ms: int = 1_500) -> UsageEvent:
    return UsageEvent(0, 1, seq, "", "denied", "acme", at_ms, user=user, reason="no_seat")


def sample(seq: int, *numbers: int) -> UsageEvent:
    return UsageEvent(0, 1, seq, "", "sample", "acme", 60_000, numbers=numbers)  # type: ignore[arg-type]  # five


DAY = [
    started(1, "l1"),
    started(2, "l2", user="bo"),
    denied(3, "cy"),
    ended(4, "l1"),
    sample(5, 1, 2, 2, 0, 1),
    started(6, "l3", 3_000, user="ana", tariff="service"),
    ended(7, "l2", user="bo", reason="expired"),
]


def told(events: list[UsageEvent]) -> dict[str, Any]:
    return {
        "leases": oracle.leases(events),
        "denials": oracle.denials(events),
        "samples": oracle.samples(events),
        "missing": oracle.missing(events),
    }


async def all_of(recorder: Recorder, partition: int = 0) -> int:
    total = 0
    while count := await recorder.record_once(partition):
        total += count
    return total


async def until(done: Callable[[], Any], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not done():
            await asyncio.sleep(0.02)


class Killed(BaseException):
    """The process is gone at this step."""


class Fuse:
    """Counts steps, and kills at one."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.steps: list[str] = []

    def step(self, name: str) -> None:
        self.steps.append(name)
        self.left -= 1
        if self.left == 0:
            raise Killed(name)


class FusedStream:
    """A store whose caller may die before and after each call."""

    def __init__(self, store: Store, fuse: Fuse) -> None:
        self.store, self.fuse = store, fuse

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            self.fuse.step(f"before {name}")
            result = await getattr(self.store, name)(*arguments)
            self.fuse.step(f"after {name}")
            return result

        return call
