"""Ctrl-C for seatd alone, where it was started by make.

A terminal sends Ctrl-C to every process in front: to make as well, which then calls its target failed, however
cleanly that ended.  Decides nothing but who is in front of the terminal; without make or without a terminal nothing
is done.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def alone_in_front() -> Iterator[None]:
    """Come to the front of the terminal as a process group of its own, and give the front back in the end."""
    before = _front()
    if before is None:
        yield
        return
    os.setpgid(0, 0)
    # From behind, moving to the front would stop us; and nobody could continue what Ctrl-Z stopped.
    for number in (signal.SIGTTOU, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    os.tcsetpgrp(sys.stdin.fileno(), os.getpid())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.tcsetpgrp(sys.stdin.fileno(), before)


def _front() -> int | None:
    """Name the group in front, if it is ours, is not led by us, and make is in it."""
    if "MAKELEVEL" not in os.environ or os.getpgrp() == os.getpid():
        return None
    try:
        front = os.tcgetpgrp(sys.stdin.fileno())
    except (OSError, ValueError):
        return None
    return front if front == os.getpgrp() else None
