"""What has come of a run so far: rows of the table, totals, and the histories in which something was found, as files."""

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.episodes import Judged
from tests.sim.checker import Violation
from tests.sim.run import Row, table

WANTED = {
    "simulated histories": 2_000,
    "store kills": 200,
    "failovers": 50,
    "rollbacks": 50,
    "operations": 1_000_000,
}
"""What a whole run has to reach."""


@dataclass
class Outcome:
    """Collects; `out` is the folder of what is written for study."""

    seed: int
    out: Path
    real: dict[str, Row] = field(default_factory=dict)
    simulated: dict[str, Row] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    written: list[Path] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, one: Judged) -> None:
        """Add a history of real processes."""
        history = one.history
        row = self.real.setdefault(history.fault, Row(history.fault))
        row.add(history.number, history.operations, one.found)
        if one.found:
            self.out.mkdir(parents=True, exist_ok=True)
            name = f"{history.seed} {history.fault} {history.number} {history.tenant}.jsonl"
            path = self.out / "".join(c if c.isalnum() or c in ".-" else "-" for c in name)
            history.write(path, [row._asdict() for row in one.ledger], [v._asdict() for v in one.found])
            self.written.append(path)

    def broke(self, fault: str, number: int, what: str) -> None:
        """Note that an episode could not be played: that is no proof either."""
        self.real.setdefault(fault, Row(fault)).add(number, 0, [Violation("broken", 0, what)])

    def add_simulated(self, rows: Iterable[Row]) -> None:
        """Add what a part of the simulation found."""
        for part in rows:
            row = self.simulated.setdefault(part.fault, Row(f"simulated: {part.fault}"))
            for name, number in asdict(part).items():
                if isinstance(number, int):
                    setattr(row, name, getattr(row, name) + number)
            row.found += part.found

    @property
    def rows(self) -> list[Row]:
        return [*self.real.values(), *self.simulated.values()]

    @property
    def found(self) -> list[tuple[Row, int, Violation]]:
        return [(row, number, violation) for row in self.rows for number, violation in row.found]

    def totals(self) -> dict[str, int]:
        real = sum(row.operations for row in self.real.values())
        simulated = sum(row.operations for row in self.simulated.values())
        return {
            "simulated histories": sum(row.histories for row in self.simulated.values()),
            "store kills": self.counts["store kills"],
            "failovers": self.counts["failovers"],
            "rollbacks": self.counts["rollbacks"],
            "operations": real + simulated,
            "operations on real processes": real,
            "histories of real processes": sum(row.histories for row in self.real.values()),
        }

    def lacking(self) -> dict[str, int]:
        """Name the totals that were not reached, and by how much."""
        totals = self.totals()
        return {name: wanted - totals[name] for name, wanted in WANTED.items() if totals[name] < wanted}

    def text(self) -> str:
        """Lay out the table, the totals and what was found."""
        total = Row("all")
        for row in self.rows:
            for name, number in asdict(row).items():
                if isinstance(number, int):
                    setattr(total, name, getattr(total, name) + number)
        lines = [table([*self.rows, total]), ""]
        lines.append(", ".join(f"{number:,} {name}" for name, number in self.totals().items()))
        others = {name: number for name, number in self.counts.items() if name not in WANTED}
        lines.append(", ".join(f"{number:,} {name}" for name, number in others.items()))
        lines.append(f"seed {self.seed}, {time.monotonic() - self.began:.0f} s")
        for row, number, violation in self.found[:40]:
            lines.append(f"SEED={self.seed} {row.fault} {number}: {violation.invariant}: {violation.what}")
            lines.append(f"  again: {self._again(row, number)}")
        lines += [f"written: {path}" for path in self.written]
        return "\n".join(lines)

    def _again(self, row: Row, number: int) -> str:
        fault = row.fault.removeprefix("simulated: ")
        if fault != row.fault:
            return f'python -m tests.sim.run --seed {number} --fault "{fault}" --histories 1'
        return (
            f'python -m tests.faults.run --seed {self.seed} --fault "{fault}" --number {number} --episodes 1'
        )

    def as_json(self) -> str:
        """Say the same for programs."""
        body: dict[str, Any] = {
            "seed": self.seed,
            "seconds": round(time.monotonic() - self.began),
            "rows": [asdict(row) for row in self.rows],
            "totals": {**self.counts, **self.totals()},
            "written": [str(path) for path in self.written],
        }
        return json.dumps(body)
