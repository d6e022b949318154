"""What the command's verbs share: flags, exit codes, where the key comes from, what people are told.

Nothing here asks a server for anything.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from seatd_client.errors import NoSeat, Refused, SeatElsewhere, SeatError, Transient
from seatd_client.line import Standing

EX_WRONG = 2
EX_LOST = 69
EX_NO_SEAT = 75
EX_REFUSED = 77

KEY_HELP = "The key comes from --key-file, or else from SEATD_CLIENT_KEY"


def add_asking(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say whom to ask, for whom, and how long."""
    parser.add_argument("--user", required=True, help="who sits")
    parser.add_argument(
        "--url",
        default=os.environ.get("SEATD_URL", "http://127.0.0.1:8470"),
        help="the server (default: SEATD_URL, else %(default)s)",
    )
    parser.add_argument("--key-file", type=Path, help="a file with the client key")
    parser.add_argument(
        "--within", type=float, default=20.0, metavar="S", help="try for so many seconds (%(default)s)"
    )


def add_wishes(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what seat it shall be."""
    parser.add_argument("--client", help="this desktop's id (default: random, kept per user and machine)")
    parser.add_argument(
        "--takeover", action="store_true", help="move the user's seat here from another client"
    )
    parser.add_argument(
        "--addon", action="append", metavar="PRODUCT", help="ask for this add-on; may be repeated"
    )
    parser.add_argument(
        "--label", action="append", default=[], metavar="NAME=VALUE", help="for reports; may be repeated"
    )


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says how long to wait in line."""
    parser.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="S",
        help="where every seat is taken, wait in line for so many seconds",
    )


def read_key(key_file: Path | None) -> str:
    """Read the key; raises `ValueError` where there is none, `OSError` where its file cannot be read."""
    if key_file is not None:
        return key_file.expanduser().read_text("utf-8").strip()
    key = os.environ.get("SEATD_CLIENT_KEY", "")
    if not key:
        raise ValueError("no key: set SEATD_CLIENT_KEY, or name a file with --key-file")
    return key.strip()


def read_label(text: str) -> tuple[str, str]:
    """Read NAME=VALUE; raises `ValueError` where it is not that."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"a label is NAME=VALUE: {text!r}")
    return name, value


def tell(message: str) -> None:
    """Tell people something, beside what the program says."""
    print(f"seatd: {message}", file=sys.stderr)  # noqa: T201 - a command speaks to people


def tell_standing(standing: Standing) -> None:
    """Tell people where they stand in line."""
    if standing.error is not None:
        tell(f"waiting for a seat, the place is kept: {standing.error}")
        return
    place = f"place {standing.position} of {standing.waiting}" if standing.position else "no place in line"
    eta = f", about {_duration(standing.eta_ms)}" if standing.eta_ms is not None else ""
    tell(f"every seat is taken ({standing.in_use} of {standing.capacity}): waiting, {place}{eta}")


def _duration(ms: int) -> str:
    seconds = max(ms // 1000, 1)
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"


def ended(message: str, code: int) -> int:
    """Tell why the command ends; returns its exit code."""
    tell(message)
    return code


def refused(error: SeatError) -> int:
    """Tell why there is no seat; returns the exit code that says whether another try may help."""
    if isinstance(error, NoSeat):
        return ended(f"every seat is taken ({error.in_use} of {error.capacity})", EX_NO_SEAT)
    if isinstance(error, SeatElsewhere):
        return ended("the user sits at another client; --takeover moves the seat here", EX_NO_SEAT)
    if isinstance(error, Refused) and not isinstance(error, Transient):
        return ended(str(error), EX_REFUSED)
    return ended(str(error), EX_NO_SEAT)
