"""What `seatd serve --demo` tells the person who started it: addresses, keys, lines to paste.

Decides what the lines look like; they are for a shell in the folder where seatd was started, and need nothing but
what is installed beside seatd.  Keys are never printed: the lines read them from their file.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seatd.app import Running
from seatd.cli.client import URL_DEFAULT
from seatd.config import Settings
from seatd.flows.demo import AGENT, KEYS, TEAM

CLIENT_URL_DEFAULT: Final = "http://127.0.0.1:8470"
KEY: Final = "SEATD_CLIENT_KEY"


def show(settings: Settings, served: Running) -> None:
    """Print where seatd serves, where the keys lie, and lines to paste."""
    console = Console(highlight=False, markup=False, emoji=False)
    data = _short(settings.data)
    rows = {
        "clients": served.url,
        "administration": f"{served.internal_url}  (billing, metrics and health too)",
        "admin key": data / "admin.key",
        "client keys": data / KEYS,
        "tenants": f"{TEAM}: 3 floating seats; {AGENT}: ana and bob, named",
    }
    table = Table(title="seatd serves", title_justify="left", box=box.ROUNDED, show_header=False)
    for name, value in rows.items():
        table.add_row(name, Text(str(value), overflow="fold"))
    console.print(table)
    for line in lines(settings, served):
        console.print(Text(line, style="dim" if line.startswith("#") else ""), soft_wrap=True)
    console.print(Text("\nCtrl-C ends it; what stands in the data folder is found again.", style="dim"))
    sys.stdout.flush()  # who reads us through a pipe is told now


def goodbye(settings: Settings) -> None:
    """Say that everything was put away."""
    print(f"\nseatd has stopped; {_short(settings.data)} keeps all as it was.")


def lines(settings: Settings, served: Running) -> list[str]:
    """Write the lines to paste into a second terminal; those that begin with # say what follows."""
    data = _short(settings.data)
    bin_folder = _short(Path(sys.executable).parent)
    sdk = f"{shlex.quote(str(bin_folder / 'python'))} -m seatd_client"
    user = "--user" if served.url == CLIENT_URL_DEFAULT else f"--url {served.url} --user"
    who = f"{shlex.quote(str(bin_folder / 'seatd'))} who {TEAM}"
    if served.internal_url != URL_DEFAULT:
        who += f" --url {served.internal_url}"
    if data != Path("var"):
        who += f" --key-file {shlex.quote(str(data / 'admin.key'))}"
    keys = shlex.quote(str(data / KEYS))
    return [
        "",
        "# Paste into a second terminal, in the same folder.  Take a seat, renew it, give it back:",
        f"export {KEY}=$(sed -n 's/^{TEAM} //p' {keys})",
        f"{sdk} take {user} ana",
        f"{sdk} renew {user} ana",
        f"{sdk} free {user} ana",
        "",
        "# Hold a seat while a program runs; here one that shows who sits:",
        f"{sdk} hold {user} ben -- {who}",
        "",
        "# The same with curl, where there is one:",
        f'curl -H "Authorization: Bearer ${KEY}" --json \'{{"user": "cem", "client": "desk-1"}}\' {served.url}/v1/leases',
    ]


def _short(path: Path) -> Path:
    """Write a path as people in this folder would, where it lies below."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - the interpreter's link must not be followed
    here = Path.cwd()
    return whole.relative_to(here) if whole.is_relative_to(here) else whole
