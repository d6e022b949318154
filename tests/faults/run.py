"""The proof as a program: real processes, broken in every way that is known, and one table of what came of it.

`python -m tests.faults.run --seed N --minutes M` runs all faults; `--fault NAME --histories K` some of one.  Status 1
where anything was found; the histories are written to `--out` for study.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.episodes import Judged, play
from tests.faults.houses import House
from tests.faults.kinds import FAULTS, Fault
from tests.sim.run import Row, table

LOT = 10
"""Episodes that one house lives through, before it is taken down and another is built."""


@dataclass
class Outcome:
    """What has come of it so far."""

    rows: dict[str, Row]
    out: Path
    counts: Counter[str] = field(default_factory=Counter)
    written: list[Path] = field(default_factory=list)

    def add(self, one: Judged) -> None:
        history = one.history
        self.rows[history.fault].add(history.number, len(history.asked), one.found)
        if one.found:
            self.out.mkdir(parents=True, exist_ok=True)
            name = f"{history.seed}-{history.fault.replace(' ', '-')}-{history.number}-{history.tenant}.jsonl"
            history.write(
                self.out / name, [row._asdict() for row in one.ledger], [v._asdict() for v in one.found]
            )
            self.written.append(self.out / name)


async def lot(fault: Fault, seed: int, numbers: range, outcome: Outcome) -> None:
    """Build a house and let some episodes of a fault happen to it."""
    async with House(**fault.house) as house:
        for number in numbers:
            for one in await play(house, fault, seed, number, outcome.counts):
                outcome.add(one)


async def real(plan: dict[str, int], seed: int, houses: int, outcome: Outcome) -> None:
    """Run so many episodes of each fault, in several houses side by side."""
    faults = {fault.name: fault for fault in FAULTS}
    lots = [
        (faults[name], range(first, min(first + LOT, episodes)))
        for name, episodes in plan.items()
        for first in range(0, episodes, LOT)
    ]

    async def live() -> None:
        while lots:
            fault, numbers = lots.pop(0)
            await lot(fault, seed, numbers, outcome)

    async with asyncio.TaskGroup() as group:
        for _ in range(houses):
            group.create_task(live())


def main() -> int:
    """Run the program; 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", default="", choices=("", *(fault.name for fault in FAULTS)))
    parser.add_argument("--histories", type=int, default=4)
    parser.add_argument("--houses", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("faults-found"))
    options = parser.parse_args()
    plan = {f.name: options.histories for f in FAULTS if options.fault in {"", f.name}}
    outcome = Outcome({name: Row(name) for name in plan}, options.out)
    began = time.monotonic()
    asyncio.run(real(plan, options.seed, options.houses, outcome))
    rows = [*outcome.rows.values()]
    if options.json:
        print(json.dumps([row.__dict__ for row in rows]))
    else:
        print(table(rows))
        print(f"seed {options.seed}, {time.monotonic() - began:.0f} s, {dict(outcome.counts)}")
    for row in rows:
        for number, violation in row.found[:20]:
            print(f"SEED={options.seed} {row.fault} {number}: {violation}", file=sys.stderr)
    return 1 if any(row.found for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
