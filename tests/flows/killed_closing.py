"""Close a month in a process that is killed at its n-th write: `python -m tests.flows.killed_closing URL PERIOD`.

Forks for each step, which saves importing everything again, and tells on standard output what became of each child:
`killed` (by SIGKILL, at that step) or `done`.  Waits for a line on standard input before each, so that the caller can look.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from sqlalchemy import event

from seatd.billing.instants import parse_instant
from seatd.database.engine import make_engine
from seatd.flows.closing import Closing, Waits
from seatd.flows.months import Months
from seatd.flows.price_lists import PriceLists
from seatd.flows.signing import Signer
from seatd.seats.receipts import Keyring

LATER_MS = parse_instant("2026-06-01T00:00:00Z")
_WRITES = ("INSERT", "UPDATE", "DELETE")


async def close(url: str, period: str, step: int) -> None:
    engine = make_engine(url)
    left = step

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().upper().startswith(_WRITES):
            count()

    event.listen(engine.sync_engine, "before_cursor_execute", before)
    event.listen(engine.sync_engine, "commit", count)  # before it commits
    months = Months(engine, PriceLists(engine, lambda: LATER_MS), clock=lambda: LATER_MS, waiting=lambda: 0)

    async def recorded() -> bool:
        return True

    closing = Closing(
        months,
        clock=lambda: LATER_MS,
        recorded=recorded,
        waiting=lambda: 0,
        signer=lambda: Signer(Keyring.of("k", {"k": b"k" * 32})),
        waits=Waits(500, 2_000, 0),
    )
    await closing.close(period, accept_gap=None, actor="k")
    await engine.dispose()


def main(url: str, period: str) -> None:
    for step, _ in enumerate(sys.stdin, 1):
        child = os.fork()
        if child == 0:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - to the child's end
            asyncio.run(close(url, period, step))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if killed else "done" if status == 0 else f"failed {status}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
