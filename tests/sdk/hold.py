"""The hold command, run as people run it."""

import asyncio
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEY = "sc.acme.Zm9vYmFy"


def environ(**more):
    """The environment to run it in: a key, the SDK on the path, and no home to keep a client id in."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SEATD_")}
    ours = {
        "PYTHONPATH": str(ROOT / "client_sdk"),
        "SEATD_CLIENT_KEY": KEY,
        "XDG_STATE_HOME": "/dev/null",
    }
    return {**inherited, **ours, **more}


def command(url, *arguments, user="ana"):
    """The command line up to the arguments of the test."""
    return [sys.executable, "-m", "seatd_client", "hold", "--url", url, "--user", user, *arguments]


async def start(url, *arguments, user="ana", **env):
    """Start it; its output is kept."""
    return await asyncio.create_subprocess_exec(
        *command(url, *arguments, user=user),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environ(**env),
        preexec_fn=_hear_hangups,
    )


def _hear_hangups():
    """Ignore no hang-up, though the tests themselves may run under nohup: what is ignored is inherited."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


async def ended(process):
    """Wait for its end; returns exit code, output and messages."""
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, out.decode(), err.decode()


async def run(url, *arguments, user="ana", **env):
    """Run it to its end."""
    return await ended(await start(url, *arguments, user=user, **env))
