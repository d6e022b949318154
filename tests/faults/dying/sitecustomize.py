"""Kills a seatd between two steps of its recorder, from outside of its code.

Python imports a module of this name when it starts, from the folder that PYTHONPATH names.  On SIGUSR1 the process reads
a number from the file that DIES_AT names, and kills itself at that step of the recorder, counted from the next events
it reads; the step's name is left in the file.
"""

import os
import signal
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from seatd.seats.store import Store
from seatd.usage.recorder import Recorder

NOTE = Path(os.environ["DIES_AT"])
_recording: ContextVar[bool] = ContextVar("recording", default=False)
_left: list[int] = []


def _arm(*_: object) -> None:
    _left[:] = [int(NOTE.read_text())]


def _step(name: str) -> None:
    if not _left:
        return
    _left[0] -= 1
    if _left[0] <= 0:
        NOTE.write_text(name)
        os.kill(os.getpid(), signal.SIGKILL)


_events, _trim, _commit = Store.events, Store.trim, Recorder._commit


async def _events_killed(self: Store, *arguments: Any) -> Any:
    found = await _events(self, *arguments)
    if found:
        _step("events read")
    return found


async def _commit_killed(self: Recorder, *arguments: Any) -> Any:
    token = _recording.set(True)
    try:
        done = await _commit(self, *arguments)
    finally:
        _recording.reset(token)
    _step("committed")
    return done


async def _trim_killed(self: Store, *arguments: Any) -> Any:
    await _trim(self, *arguments)
    _step("trimmed")


def _statement(_c: Any, _cursor: Any, text: str, *_: Any) -> None:
    if _recording.get():
        _step(f"before {text[:24]}")


def _before_commit(_c: Any) -> None:
    if _recording.get():
        _step("before the commit")


# The classes are patched where they stand: nothing of seatd knows of this
for place, name, patched in (
    (Store, "events", _events_killed),
    (Store, "trim", _trim_killed),
    (Recorder, "_commit", _commit_killed),
):
    setattr(place, name, patched)
event.listen(Engine, "before_cursor_execute", _statement)
event.listen(Engine, "commit", _before_commit)
signal.signal(signal.SIGUSR1, _arm)
