"""The state machine can fail: it catches every way to break the scripts that is listed."""

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.seats.conftest import machine_settings
from tests.seats.machine import SeatMachine
from tests.seats.mutations import MUTATIONS, Mutation, put_in_place
from tests.seats.mutations.line import LINE
from tests.seats.scenarios import play

EXAMPLES = 400  # most are caught within twenty


@pytest.mark.parametrize("mutation", [*MUTATIONS, *LINE], ids=lambda mutation: mutation.name)
def test_is_caught(mutation: Mutation, machine: type[SeatMachine], monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(monkeypatch, mutation)
    # An AssertionError is a difference that was seen; a script that cannot run would be a StoreAwayError.
    with pytest.raises(AssertionError):
        _look_everywhere(machine)


def _look_everywhere(machine: type[SeatMachine]) -> None:
    play(machine)
    run_state_machine_as_test(machine, settings=machine_settings(EXAMPLES, shrink=False))
