"""The simulator as a program: `python -m tests.sim.run --histories 2000 --seed 1` prints the table, a row a fault.

With `--real` the same schedules run on real stores; `replay` does that for other programs, as `simulate` does the other.
A history is its seed: `--seed 7 --fault split --histories 1` replays the seventh of that fault.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tests.sim.checker import Violation
from tests.sim.linear import TooLongError, linearizable, steps_of
from tests.sim.network import Link
from tests.sim.replay import real_worlds
from tests.sim.rules import Rules
from tests.sim.world import FAULTS, Make, Setting, World, setting_for

SMALL = Setting(
    fault="linear", ttls=(3_600_000,), horizon_ms=5_000, pause_ms=(50, 900), stay_ms=(100, 1_500), again=0, crash=0,
    hang=0, replay=0, takeover=0, changes=(), sql_lost=0, faults=0, link=Link(slow=100, lost=60, reply_lost=60, doubled=0, dark=0),
)  # fmt: skip
LINEAR = "linearizable"
STEPS_MOST = 26
Progress = Callable[[int, int], None]


@dataclass
class Row:
    """What came of the histories of one fault; `found` holds (seed, violation)."""

    fault: str
    histories: int = 0
    operations: int = 0
    over_the_cap: int = 0
    live_seats_refused: int = 0
    events_lost: int = 0
    events_doubled: int = 0
    other: int = 0
    found: list[tuple[int, Violation]] = field(default_factory=list)

    def add(self, seed: int, operations: int, violations: Sequence[Violation]) -> None:
        self.histories += 1
        self.operations += operations
        self.found += [(seed, violation) for violation in violations]
        for violation in violations:
            name = COLUMNS.get(violation.invariant, "other")
            setattr(self, name, getattr(self, name) + 1)


COLUMNS = {
    "I1": "over_the_cap",
    "I2": "over_the_cap",
    "I4": "live_seats_refused",
    "events lost": "events_lost",
    "events doubled": "events_doubled",
}


def history(seed: int, fault: str, rules: Rules | None = None, make: Make = World, **fixed: object) -> World:
    """Play one history; the same arguments play the same."""
    setting = setting_for(random.Random(f"{fault} {seed}"), fault, **fixed)
    return make(seed, setting, rules or Rules()).run()


def small_history(seed: int, rules: Rules | None = None, make: Make = World) -> tuple[World, bool]:
    """Play a short one in which nothing runs out; returns it, and whether it is linearizable."""
    rng = random.Random(f"small {seed}")
    setting = replace(SMALL, cap=rng.choice((1, 2)), users=rng.choice((2, 3)))
    world = make(seed, setting, rules or Rules()).play()
    # A prefix of a linearizable history is linearizable: what had not returned by then is unknown.
    asked = world.history.asked[:STEPS_MOST]
    last = asked[-1].invoked
    steps = [
        step if step.returned <= last else step._replace(returned=1 << 60, outcome="unknown")
        for step in steps_of(asked)
    ]
    return world, linearizable(steps, setting.cap)


def silent(done: int, of: int) -> None:
    """Tell nobody."""


def simulate(
    histories: int, seed: int, progress: Progress = silent, only: str = "", make: Make = World
) -> list[Row]:
    """Play so many histories from this seed on, spread over all faults; `progress` is told how many are done."""
    faults = [only] if only else [*FAULTS, LINEAR]
    rows = {fault: Row(fault) for fault in faults}
    for done in range(histories):
        fault, number = faults[done % len(faults)], seed + done // len(faults)
        _one(rows[fault], number, make)
        progress(done + 1, histories)
    return list(rows.values())


def replay(histories: int, seed: int, progress: Progress = silent, only: str = "") -> list[Row]:
    """Play them on real stores, each a process of its own: real scripts, real losses, virtual time."""
    with real_worlds() as make:
        return simulate(histories, seed, progress, only, make)


def _one(row: Row, seed: int, make: Make) -> None:
    if row.fault != LINEAR:
        world = history(seed, row.fault, make=make)
        row.add(seed, world.watch.operations, world.watch.violations)
        return
    try:
        world, right = small_history(seed, make=make)
    except TooLongError:
        return
    found = [] if right else [Violation("linearizability", 0, "no order explains the answers")]
    row.add(seed, world.watch.operations, [*world.watch.violations, *found])


def table(rows: Sequence[Row]) -> str:
    """Lay the rows out."""
    heads = (
        "fault",
        "histories",
        "operations",
        "over the cap",
        "live seats refused",
        "events lost",
        "events doubled",
    )
    lines: list[tuple[str, ...]] = [heads]
    for row in rows:
        numbers = (
            row.histories, row.operations, row.over_the_cap, row.live_seats_refused, row.events_lost,
            row.events_doubled,
        )  # fmt: skip
        lines.append((row.fault, *(f"{number:,}" for number in numbers)))
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def failures(rows: Sequence[Row], flags: str = "") -> list[str]:
    """Say what did not hold, and how to see it again."""
    return [
        f"SEED={seed} fault={row.fault!r} {v.invariant} at {v.at_ms} ms: {v.what}\n"
        f"  again: python -m tests.sim.run --histories 1 --seed {seed} --fault '{row.fault}'{flags}"
        for row in rows
        for seed, v in row.found
    ]


def main() -> int:
    """Run the program; 1 where an invariant did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", default="", choices=("", *FAULTS, LINEAR))
    parser.add_argument("--real", action="store_true", help="on real stores")
    options = parser.parse_args()
    began = time.monotonic()

    def progress(done: int, of: int) -> None:
        if sys.stderr.isatty() and done % 20 == 0:
            print(f"\r{done}/{of}", end="", file=sys.stderr)

    play, flags = (replay, " --real") if options.real else (simulate, "")
    rows = play(options.histories, options.seed, progress, options.fault)
    print(table(rows))
    print(f"seed {options.seed}, {options.histories / (time.monotonic() - began):.1f} histories a second")
    for line in failures(rows, flags)[:20]:
        print(line)
    return 1 if any(row.found for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
