"""A program that runs while a seat is held: started in a group of its own, forwarded to, ended.

Decides how processes and the terminal are treated; when to end one is decided in `__main__`.  The
group is what makes "the program and all that it started" one thing to signal.  Where we have the
terminal, the group gets it for the time being, as a shell would do, so that keys reach the program.
On Windows there are no such groups: the program itself is ended, and at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

_LOOK_S = 0.05

if sys.platform == "win32":

    class Child:
        """A running program."""

        def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
            """Start `command`; raises `OSError` where it cannot be."""
            self._process = subprocess.Popen(list(command), env=dict(environ))

        def poll(self) -> int | None:
            """Tell the exit code, or None while it runs."""
            return self._process.poll()

        def forward(self, number: int) -> None:
            """Leave Ctrl-C and Ctrl-Break to the console, which sends them to the program as well."""

        def end(self, grace_s: float) -> None:
            """End the program; there is no polite way for all of them."""
            self._process.terminate()
            self._process.wait(grace_s)

        def give_terminal_back(self) -> None:
            """Do nothing: a console is shared."""

else:

    class Child:
        """A running program and all that it started."""

        def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
            """Start `command`; raises `OSError` where it cannot be."""
            self._terminal = _terminal()
            self._code: int | None = None
            self._ending = False
            # Not subprocess: its hook for a group is unsafe beside threads before Python 3.11.
            self._pid = os.posix_spawnp(
                command[0],
                list(command),
                dict(environ),
                setpgroup=0,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores these, programs do not expect it
            )
            self._go_on()

        def poll(self) -> int | None:
            """Tell the exit code, as a shell would (128 + the signal that ended it), or None while it runs."""
            if self._code is not None:
                return self._code
            pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                self._stopped(os.WSTOPSIG(status))
            elif pid:
                self._code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            return self._code

        def forward(self, number: int) -> None:
            """Send a signal to the program and all that it started."""
            if self._group_lives():
                with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended just now
                    os.killpg(self._pid, number)

        def end(self, grace_s: float) -> None:
            """End the program and all that it started: politely, and after `grace_s` firmly."""
            self._ending = True
            self.forward(signal.SIGTERM)
            self.forward(signal.SIGCONT)  # a stopped program could not hear of its end
            until_s = time.monotonic() + grace_s
            while self._group_lives() and time.monotonic() < until_s:
                time.sleep(_LOOK_S)
            self.forward(signal.SIGKILL)
            while self.poll() is None:
                time.sleep(_LOOK_S)

        def give_terminal_back(self) -> None:
            """Make our own group the terminal's again, if the program's was."""
            if self._terminal is not None:
                _set_group(self._terminal, os.getpgrp())

        def _go_on(self) -> None:
            """Give the group the terminal, and wake it: it may have touched the terminal before that."""
            if self._terminal is not None and os.tcgetpgrp(self._terminal) == os.getpgrp():
                _set_group(self._terminal, self._pid)
            if self._terminal is not None:
                os.killpg(self._pid, signal.SIGCONT)

        def _stopped(self, number: int) -> None:
            """Follow a program that was stopped from the keyboard, so that the shell gets its turn."""
            if self._terminal is None or self._ending or number == signal.SIGSTOP:
                return
            if number == signal.SIGTSTP:
                self.give_terminal_back()
                os.killpg(os.getpgrp(), signal.SIGTSTP)  # we stop here, until the shell continues us
            self._go_on()

        def _group_lives(self) -> bool:
            self.poll()  # a leader not waited for would count as alive
            try:
                os.killpg(self._pid, 0)
            except (ProcessLookupError, PermissionError):  # macOS forbids to signal a group of zombies
                return self._code is None
            return True


def _terminal() -> int | None:
    """Return the terminal that we have the keyboard of, or None."""
    if not sys.stdin or not sys.stdin.isatty():
        return None
    terminal = sys.stdin.fileno()
    return terminal if os.tcgetpgrp(terminal) == os.getpgrp() else None


def _set_group(terminal: int, group: int) -> None:
    # Who is not in the terminal's group and touches it is stopped by SIGTTOU, unless it is blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        os.tcsetpgrp(terminal, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
