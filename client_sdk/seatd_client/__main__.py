"""The command: `python -m seatd_client hold --user ana -- CMD ...`, and `take`, `renew`, `free` by hand.

Decides how a program and its seat end together, and what signals mean.  Holding the seat is `blocking`'s
work, running the program `child`'s; the verbs by hand are `byhand`'s; flags and exit codes `command`'s.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from seatd_client import byhand
from seatd_client.blocking import BlockingSeat, BlockingSeatClient
from seatd_client.child import Child
from seatd_client.command import (
    EX_LOST,
    EX_NO_SEAT,
    EX_REFUSED,
    EX_WRONG,
    KEY_HELP,
    add_asking,
    add_wait,
    add_wishes,
    ended,
    read_key,
    read_label,
    refused,
    tell,
    tell_standing,
)
from seatd_client.errors import SeatError
from seatd_client.lease import Patience
from seatd_client.notices import Callbacks

EX_NOT_EXECUTABLE = 126
EX_NOT_FOUND = 127

_HELP = f"""
exit codes:
  the program's own, or 128 + N where signal N ended it; and
  2    the command line is wrong
  {EX_LOST}   the seat was lost, and the program was ended
  {EX_NO_SEAT}   no seat now (all taken, the user sits elsewhere, the server is away): try again later
  {EX_REFUSED}   refused (key, user not named, tenant suspended): trying again will not help
  {EX_NOT_EXECUTABLE}  the program could not be run
  {EX_NOT_FOUND}  the program was not found

examples:
  SEATD_CLIENT_KEY=... python -m seatd_client hold --user ana -- softphone --fullscreen
  python -m seatd_client hold --user ana --key-file ~/.seatd.key --takeover --addon social -- desk
  python -m seatd_client hold --user ana --wait 600 -- desk
  python -m seatd_client hold --url https://seats.example --user ana --label site=berlin -- desk

{KEY_HELP}, which the program does not inherit.
Ctrl-C and other signals go to the program; the seat is given back once it has ended.
"""

_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGBREAK")
_LOOK_S = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    ours, command = _split(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(ours)
    if options.verb in byhand.VERBS:
        return byhand.main(options)
    return _hold(options, command)


def _hold(options: argparse.Namespace, command: Sequence[str]) -> int:
    if not command:
        return ended("name the program to run, after --", EX_WRONG)
    try:
        client = BlockingSeatClient(
            options.url, read_key(options.key_file), client=options.client, patience=_patience(options)
        )
        seat = client.seat(
            user=options.user,
            addons=options.addon,
            takeover=options.takeover,
            labels=dict(map(read_label, options.label)),
            wait_s=options.wait,
            callbacks=Callbacks(
                on_at_risk=lambda error: tell(f"the seat is at risk, trying on: {error}"),
                on_waiting=tell_standing,
            ),
        )
    except (OSError, ValueError) as error:
        return ended(str(error), EX_WRONG)
    signals = _Signals()
    try:
        with seat:
            signals.keep()
            return _run(seat, command, signals, options.grace)
    except SeatError as error:
        return refused(error)


def _run(seat: BlockingSeat, command: Sequence[str], signals: _Signals, grace_s: float) -> int:
    environ = {name: value for name, value in os.environ.items() if name != "SEATD_CLIENT_KEY"}
    try:
        child = Child(command, environ)
    except FileNotFoundError as error:
        return ended(str(error), EX_NOT_FOUND)
    except OSError as error:
        return ended(str(error), EX_NOT_EXECUTABLE)
    try:
        return _watch(seat, child, signals, grace_s)
    finally:
        child.give_terminal_back()


def _watch(seat: BlockingSeat, child: Child, signals: _Signals, grace_s: float) -> int:
    """Wait for the end of the program or of the seat, whichever comes first."""
    while (code := child.poll()) is None:
        if seat.lost.is_set():
            tell(f"the seat is lost ({seat.reason or 'deadline'}): ending the program")
            child.end(grace_s)
            return EX_LOST
        number = signals.next(_LOOK_S)
        if number is not None:
            child.forward(number)
    return code


class _Signals:
    """Signals end us while there is no program yet, and go to the program afterwards."""

    def __init__(self) -> None:
        self._kept: queue.SimpleQueue[int] = queue.SimpleQueue()  # may be filled inside a handler
        self._keeping = False
        for name in _FORWARDED:
            number = getattr(signal, name, None)
            # What we were started to ignore (nohup) stays ignored.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._came)
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, self._child_ended)

    def keep(self) -> None:
        """Keep signals for `next`, from now on."""
        self._keeping = True

    def next(self, within_s: float) -> int | None:
        """Return the next signal to forward, or None when it is time to look at the program."""
        try:
            return self._kept.get(timeout=within_s) or None
        except queue.Empty:
            return None

    def _came(self, number: int, _frame: FrameType | None) -> None:
        if self._keeping:
            self._kept.put(number)
        elif number in {signal.SIGINT, signal.SIGTERM} or signal.Signals(number).name in {
            "SIGHUP",
            "SIGQUIT",
        }:
            raise SystemExit(128 + number)

    def _child_ended(self, _number: int, _frame: FrameType | None) -> None:
        self._kept.put(0)


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Part our arguments from the program's, which may hold options of the same names."""
    if "--" not in arguments:
        return arguments, ()
    at = list(arguments).index("--")
    return arguments[:at], arguments[at + 1 :]


def _patience(options: argparse.Namespace) -> Patience:
    return Patience(acquire_ms=int(options.within * 1000))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m seatd_client", description="Hold a seat of a seatd server."
    )
    commands = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    hold = commands.add_parser(
        "hold",
        help="run a program while a seat is held",
        description="Take a seat, run a program while it is held, and give it back. Where the seat is lost, "
        "the program is ended: SIGTERM, then SIGKILL.",
        epilog=_HELP,
        usage="python -m seatd_client hold --user USER [options] -- CMD ...",
        allow_abbrev=False,  # a key given as --key must not pass for --key-file, and be repeated in an error
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_asking(hold)
    add_wishes(hold)
    add_wait(hold)
    hold.add_argument(
        "--grace", type=float, default=10.0, metavar="S", help="from SIGTERM to SIGKILL (%(default)s)"
    )
    byhand.add_verbs(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
