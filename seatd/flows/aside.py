"""Make the files of a frozen month in a process of its own, so that a large month does not slow the seats.

Decides how little of the machine that process may have, and that it dies with its parent.  It is asked by one line of JSON
on its standard input, and answers with one.
"""

import asyncio
import json
import os
import sys
import threading
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts.price_lists import listed as price_lists
from seatd.billing.months import Month
from seatd.database.engine import make_engine, reading
from seatd.flows.making import Attempt, Made, make_files
from seatd.flows.months import OpenMonth
from seatd.flows.price_lists import read
from seatd.model import Refusal
from seatd.usage.chain import Head

WAITED_MAX: Final = 0.2
REST: Final = 24.0
"""Who shares a processor with the seats works for a twenty-fifth of the time, and so slows hardly one renewal in a hundred."""
REST_MAX_S: Final = 10.0
"""Some rests lie within a transaction, which a database ends that hears nothing for half a minute."""
_NICE: Final = 15
_PROGRAM: Final = f"import os; os.nice({_NICE}); import {__name__} as aside; aside.main()"
"""Steps back before it imports anything, which alone takes a second of a processor."""


def rest_s(took_s: float, waited: float) -> float:
    """Rest for long where others wanted the processor: this process gives way to them, its database's does not."""
    return min(REST * took_s, REST_MAX_S) if waited > WAITED_MAX else 0.0


async def made_aside(engine: AsyncEngine, attempt: Attempt) -> Made:
    """Do what `make_files` does in another process; raises what it raises."""
    opened = attempt.opened
    asked = {
        "url": engine.url.render_as_string(hide_password=False),
        "period": opened.month.period,
        "timezone": opened.month.timezone,
        "price_list": opened.price_list.version,
        "until_ms": opened.until_ms,
        "token": attempt.token,
        "heads": [[partition, *head] for partition, head in attempt.heads.items()],
        "accepts_breaks": attempt.accepts_breaks,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _PROGRAM,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )
    try:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process without the pipes that it was given")
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        answer = await process.stdout.readline()
    finally:
        if process.returncode is None:
            process.kill()  # it has answered, or nobody waits for its answer
        await process.wait()
    if not answer:
        raise RuntimeError("the process that makes a month's files died")
    told = json.loads(answer)
    if "code" in told:
        raise Refusal(told["code"], told["detail"], **told["fields"])
    return Made(told["files"], [bytes.fromhex(each) for each in told["leaves"]], told["breaks"])


async def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    engine = make_engine(asked["url"], pool_size=2)
    try:
        async with reading(engine) as connection:
            lists = {each.version: each.toml for each in await price_lists(connection)}
        month = Month.parse(asked["period"], asked["timezone"])
        opened = OpenMonth(month, read(lists[asked["price_list"]]), asked["until_ms"])
        heads = {partition: Head(pos, last) for partition, pos, last in asked["heads"]}
        made = await make_files(
            engine, Attempt(opened, asked["token"], heads, asked["accepts_breaks"]), rest=rest_s
        )
    except Refusal as refusal:
        return {"code": refusal.code, "detail": refusal.detail, "fields": refusal.fields}
    finally:
        await engine.dispose()
    return {"files": made.files, "leaves": [each.hex() for each in made.leaves], "breaks": made.breaks}


def _step_back(*, holds_locks: bool) -> None:
    """Take what nobody else wants; a little more where others would wait for a lock that this process holds."""
    if not holds_locks and hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _die_with_parent() -> None:
    sys.stdin.read()  # its end: the parent is gone, or has what it wanted
    os._exit(1)


def main() -> None:
    """Make what one line on standard input asks for, and answer with one line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    asked = json.loads(sys.stdin.readline())
    _step_back(holds_locks=asked["url"].startswith("sqlite"))
    threading.Thread(target=_die_with_parent, daemon=True).start()
    answers.write(json.dumps(asyncio.run(_answer(asked))) + "\n")
    answers.flush()
