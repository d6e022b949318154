"""That the proof can fail: a seatd with one rule broken is found out by the faults that the rule is for."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.episodes import play
from tests.faults.houses import House
from tests.faults.kinds import FAULTS
from tests.faults.mutants import event_by_a_second_call, run_wrongly, trimmed_before_the_commit

EPISODES = 6


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("mutate", "name"),
    [(event_by_a_second_call, "store's network"), (trimmed_before_the_commit, "recorder killed")],
)
async def test_a_wrong_seatd_loses_events(tmp_path: Path, mutate: Callable[[Path], None], name: str) -> None:
    right = next(fault for fault in FAULTS if fault.name == name)
    wrong = replace(right, plan=run_wrongly(right.plan, tmp_path, mutate))
    async with House(wrong.plan, random.Random(1)) as house:
        for number in range(EPISODES):
            judged = await play(house, wrong, 1, number, Counter(), written_s=3)
            invariants = {violation.invariant for one in judged for violation in one.found}
            if "events lost" in invariants:
                return
    pytest.fail(f"{mutate.__name__} was not noticed")
