"""The scripts against the oracle: every answer, every event, the samples, and the invariants.

`SEATD_STATEFUL_EXAMPLES` sets how long to look; the examples are the same each run unless it is set.
"""

import os

from hypothesis.stateful import run_state_machine_as_test

from tests.seats.conftest import machine_settings
from tests.seats.machine import SeatMachine
from tests.seats.scenarios import play

EXAMPLES = int(os.environ.get("SEATD_STATEFUL_EXAMPLES", "0"))


def test_told_at_once_as_well(machine: type[SeatMachine]) -> None:
    play(machine)


def test_scripts_do_what_the_oracle_says(machine: type[SeatMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=machine_settings(
            EXAMPLES or 150, derandomize=not EXAMPLES, shrink="SEATD_STATEFUL_SHRINK" in os.environ
        ),
    )
