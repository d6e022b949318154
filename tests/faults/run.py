"""The proof as a program: real processes, broken in every way that is known, and one table of what came of it.

`python -m tests.faults.run --seed N --minutes M --histories K` plays all faults and K simulated histories; `--fault
NAME --episodes E --number N` some of one.  Status 1 where anything was found or a total was not reached; the histories
in which something was found are written to `--out`.
"""

import argparse
import asyncio
import random
import signal
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path

import uvloop

from tests.faults import simulated
from tests.faults.episodes import TENANTS, play
from tests.faults.houses import House
from tests.faults.kinds import FAULTS
from tests.faults.outcome import WANTED, Outcome
from tests.faults.scene import Fault

Lot = list[tuple[Fault, int]]
LOT = 10
SHORT_LOT = 4
"""Episodes that one house lives through, before it is taken down and another is built."""
TELL_EVERY_S = 10.0
STOPPED = 130
TRIES = 2
"""An episode whose processes do not start, say, is played once more before the run counts as broken."""


class Run:
    """Plays episodes in several houses side by side, until all are done or the time is over."""

    def __init__(self, outcome: Outcome, houses: int, until: float, tenants: int = TENANTS) -> None:
        self.outcome = outcome
        self.houses = houses
        self.until = until
        self.tenants = tenants
        self.done = 0
        self._tried: Counter[tuple[str, int]] = Counter()
        self._lots: list[Lot] = []

    def plan(self, episodes: dict[str, int], lot: int = LOT, number: int = 0) -> None:
        """Plan so many episodes of each fault, from this number on; houses that are alike are shared."""
        alike: dict[str, Lot] = {}
        for fault in sorted(FAULTS, key=lambda fault: not fault.plan.sentinels):
            for one in range(number, number + episodes.get(fault.name, 0)):
                alike.setdefault(str(fault.plan), []).append((fault, one))
        kinds = [[all_of[i : i + lot] for i in range(0, len(all_of), lot)] for all_of in alike.values()]
        # In turns, so that whatever the time allows is a bit of everything.
        self._lots += [one for turn in zip_longest(*kinds) for one in turn if one]

    @property
    def over(self) -> bool:
        return time.monotonic() > self.until

    async def play(self, *, enough: int = 0) -> None:
        """Play what is planned, and then more of all until there are `enough` operations."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(8 * self.houses))
        async with asyncio.TaskGroup() as group:
            for _ in range(self.houses):
                group.create_task(self._live(enough))

    async def _live(self, enough: int) -> None:
        while not self.over:
            if not self._lots:
                if self.outcome.totals()["operations"] >= enough:
                    return
                self._plan_more()
            await self._lot(self._lots.pop(0))

    def _plan_more(self) -> None:
        first = 1_000_000 + self.done  # numbers that no fault has used
        cheap = [fault for fault in FAULTS if not fault.plan.sentinels]
        self._lots += [[(fault, first + number) for number in range(3)] for fault in cheap]

    async def _lot(self, lot: Lot) -> None:
        """Play a lot in a house of its own; one that breaks is left, and what remains is played in another."""
        fault, number = lot[0]
        rng = random.Random(f"{self.outcome.seed} {fault.name} {number}")
        try:
            async with House(fault.plan, rng) as house:
                while lot and not self.over:
                    fault, number = lot[0]
                    judged = await play(
                        house, fault, self.outcome.seed, number, self.outcome.counts, tenants=self.tenants
                    )
                    for one in judged:
                        self.outcome.add(one)
                    self.done += 1
                    del lot[0]
        except Exception as error:  # noqa: BLE001 - the other faults still have something to tell
            self._broke(lot, "".join(traceback.format_exception(error))[-2000:])

    def _broke(self, lot: Lot, what: str) -> None:
        fault, number = lot[0]
        self._tried[fault.name, number] += 1
        if self._tried[fault.name, number] == TRIES:
            self.outcome.broke(fault.name, number, what)
            del lot[0]
        else:
            print(f"again, as it broke: {fault.name} {number}: {what[-400:]}", file=sys.stderr)
        if lot:
            self._lots.append(lot)


async def tell(run: Run) -> None:
    """Say now and then how far it is."""
    while True:
        await asyncio.sleep(TELL_EVERY_S)
        outcome = run.outcome
        told = ", ".join(f"{number:,} {name}" for name, number in outcome.totals().items() if number)
        seconds = time.monotonic() - outcome.began
        print(
            f"{seconds:.0f} s: {run.done} episodes, {told}, {len(outcome.found)} found",
            file=sys.stderr,
            flush=True,
        )


async def everything(options: argparse.Namespace, outcome: Outcome) -> None:
    """Play what was asked for."""
    this = asyncio.current_task()
    assert this
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)  # houses are taken down
    run = Run(
        outcome, options.houses, time.monotonic() + options.minutes * 60, 1 if options.short else TENANTS
    )
    if options.fault:
        run.plan({options.fault: options.episodes}, number=options.number)
    else:
        episodes = {fault.name: fault.short if options.short else fault.full for fault in FAULTS}
        run.plan(episodes, SHORT_LOT if options.short else LOT)
    whole = not (options.fault or options.short)
    telling = asyncio.create_task(tell(run))
    simulating = asyncio.create_task(
        simulated.play(0 if options.fault else options.histories, options.seed, outcome, run.until)
    )
    try:
        await run.play(enough=WANTED["operations"] if whole else 0)
        await simulating
    finally:
        telling.cancel()
        simulating.cancel()


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=17, help="no episode begins after so many")
    parser.add_argument("--histories", type=int, default=2_200, help="simulated ones")
    parser.add_argument("--fault", default="", choices=("", *(fault.name for fault in FAULTS)))
    parser.add_argument("--episodes", type=int, default=10, help="with --fault: how many")
    parser.add_argument("--number", type=int, default=0, help="with --fault: from which on")
    parser.add_argument("--houses", type=int, default=6, help="how many stand side by side")
    parser.add_argument("--short", action="store_true", help="each fault once or twice")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("var/faults"))
    return parser.parse_args(given)


def main() -> int:
    """Run the program."""
    options = arguments()
    outcome = Outcome(options.seed, options.out)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(everything(options, outcome))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(outcome.text())
        return STOPPED
    print(outcome.as_json() if options.json else outcome.text())
    if options.fault or options.short:
        return 1 if outcome.found else 0
    lacking = outcome.lacking()
    if lacking:
        print(f"not reached: {lacking}", file=sys.stderr)
    return 1 if outcome.found or lacking else 0


if __name__ == "__main__":
    raise SystemExit(main())
