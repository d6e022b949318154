"""Wrong seatds: copies of the package with one rule broken, to be run as processes in the place of the right one.

Made here, never by a switch in the product.  A change that does not find the place it wants to break says so.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import seatd
from tests.faults.houses import Plan

PACKAGE = Path(seatd.__file__).parent

_WRITTEN_LATER = """

_ADD = (
    "redis.call('XADD', KEYS[1], '*', 'p', ARGV[1], 's', ARGV[2], 'a', redis.call('HGET', KEYS[2], 'added'), 'e', ARGV[3])"
)


async def _run_then_write(self, partition, calls, *, run=Store.run):
    outcomes = await run(self, partition, calls)
    meta, stream, _ = self.partition_keys(partition)
    events = [
        ["EVAL", _ADD, 2, stream, meta, answers.epoch, answers.first_seq + number, b"\\xdc\\0\\1" + event]
        for answers in outcomes
        if isinstance(answers, Answers)
        for number, event in enumerate(answers.events)
    ]
    if events:
        await self._send([resp.command(*each) for each in events])
    return outcomes


Store.run = _run_then_write
"""


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has {text.count(old)} times: {old}"
    path.write_text(text.replace(old, new))


def event_by_a_second_call(package: Path) -> None:
    """The script changes the lease, and seatd writes the usage event when it has the answer."""
    _change(package / "seats" / "lua" / "prelude.lua", "  write_events()\n", "")
    store = package / "seats" / "store.py"
    store.write_text(store.read_text() + _WRITTEN_LATER)


def trimmed_before_the_commit(package: Path) -> None:
    """The stream is trimmed as soon as its events were read."""
    commits = "        progress = await self._commit(partition, events)\n"
    trims = "        await self._stream.trim(partition, events[-1])\n"
    _change(package / "usage" / "recorder.py", commits, trims + commits)


def run_wrongly(plan: Plan, folder: Path, mutate: Callable[[Path], None]) -> Plan:
    """Change a house's plan so that its seatd is a copy that was made wrong."""
    shutil.copytree(PACKAGE, folder / "seatd", ignore=shutil.ignore_patterns("__pycache__"))
    mutate(folder / "seatd")
    # The copy stands before the package itself, which must not come in by the working directory either.
    path = ":".join([str(folder), *filter(None, [plan.environ.get("PYTHONPATH")])])
    return replace(plan, environ={**plan.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"})
