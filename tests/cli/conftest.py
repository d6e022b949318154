"""The command as a person runs it: a real process against a real server."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from click.testing import CliRunner

from seatd.cli.main import main
from tests.servers import SeatdProcess

_names = count()


class Ran:
    """What a command came to."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)

    def rows(self) -> list[list[str]]:
        """The cells of a printed table, its head first, split at two blanks."""
        return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in self.out.splitlines()]


def run(*arguments: str, **environ: str) -> Ran:
    """Run `python -m seatd`, with these variables alone of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEATD_")}
    command = [sys.executable, "-m", "seatd", *arguments]
    done = subprocess.run(
        command, env=kept | environ, capture_output=True, text=True, timeout=60, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def call(*arguments: str, **environ: str) -> Ran:
    """Run the command within this process: the same, and ten times as fast."""
    without: dict[str, str | None] = {name: None for name in os.environ if name.startswith("SEATD_")}
    done = CliRunner().invoke(main, arguments, env=without | environ)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def cli(seatd: SeatdProcess) -> Callable[..., Ran]:
    """Runs a command against the shared server, with the admin key in the environment."""

    def ask(*arguments: str, **environ: str) -> Ran:
        return call(
            *arguments, **{"SEATD_URL": seatd.internal_url, "SEATD_ADMIN_KEY": seatd.admin_key, **environ}
        )

    return ask


@pytest.fixture
def tenant() -> str:
    """A name that no other test uses."""
    return f"cli{next(_names)}"
