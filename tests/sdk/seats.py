"""Clients of a scripted server, and ears for what callbacks are told."""

import asyncio
import time

from seatd_client import Callbacks, Patience, SeatClient

KEY = "sc.acme.Zm9vYmFy"
PATIENCE = Patience(acquire_ms=2_000, answer_ms=1_000, release_ms=500, pause_ms=50)


def client_of(script, **options):
    return SeatClient(script.url, KEY, client="desk", **{"patience": PATIENCE, **options})


class Heard:
    """What callbacks were told."""

    def __init__(self):
        self.told: list[object] = []
        self.callbacks = Callbacks(
            on_held=lambda: self.told.append("held"),
            on_renewing=lambda: self.told.append("renewing"),
            on_at_risk=lambda error: self.told.append(("at_risk", type(error))),
            on_lost=lambda reason: self.told.append(("lost", reason)),
        )


async def until(true, within_s=5.0):
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends, "it did not come true"
        await asyncio.sleep(0.01)
