"""A short form of the proof: every fault once or twice, on real processes, with zeros in the last four columns."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.faults.kinds import FAULTS
from tests.faults.run import Outcome, real
from tests.sim.run import Row, table

SEED = int(os.environ.get("SEED", "1"))


@pytest.mark.timeout(240)
def test_nothing_is_oversold_refused_lost_or_doubled(tmp_path: Path) -> None:
    outcome = Outcome({fault.name: Row(fault.name) for fault in FAULTS}, tmp_path)
    asyncio.run(real(dict.fromkeys(outcome.rows, 2), SEED, 4, outcome))
    found = [(row.fault, *one) for row in outcome.rows.values() for one in row.found]
    assert not found, f"SEED={SEED}\n{table([*outcome.rows.values()])}\n{found}"
    assert all(row.operations for row in outcome.rows.values())
