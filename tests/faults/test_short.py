"""A short form of the proof: every fault once or twice, on real processes, with zeros in the last four columns."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.faults.kinds import FAULTS
from tests.faults.outcome import Outcome
from tests.faults.run import arguments, everything

SEED = os.environ.get("SEED", "1")


@pytest.mark.timeout(240)
def test_nothing_is_oversold_refused_lost_or_doubled(tmp_path: Path) -> None:
    outcome = Outcome(int(SEED), tmp_path)
    asyncio.run(
        everything(arguments(["--short", "--seed", SEED, "--histories", "0", "--houses", "6"]), outcome)
    )
    assert not outcome.found, outcome.text()
    assert {fault.name for fault in FAULTS if fault.short} == outcome.real.keys()
    assert all(row.operations for row in outcome.rows)
