"""Fixtures of the seat plane's tests."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.seats.machine import SeatMachine
from tests.valkey import ValkeyServer


def machine_settings(examples: int, *, derandomize: bool = True, shrink: bool = True) -> settings:
    """Bound a run of the state machine."""
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    return settings(
        max_examples=examples,
        stateful_step_count=40,
        derandomize=derandomize,
        phases=phases,
        database=None,
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture
def machine(valkey: ValkeyServer) -> Iterator[type[SeatMachine]]:
    """The state machine, bound to the shared store."""
    loop = asyncio.new_event_loop()
    yield type("SeatMachine", (SeatMachine,), {"server": valkey, "loop": loop})
    loop.close()
