"""The flags of `serve`, shared by the commands that need the same settings, and `seatd config`, which prints them.

Decides which variable stands for which flag.  Nothing is opened here.
"""

import dataclasses
import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import click

from seatd.cli.client import SettingFault
from seatd.cli.output import Output
from seatd.config import WORKERS_MAX, SettingError, Settings, checked, parse_address, waits_of

_SECRET_PARAMETER: Final = re.compile(r"pass|secret|token|key", re.IGNORECASE)


def _duration(flag: str, default: int | None, text: str) -> Callable[[Any], Any]:
    return click.option(
        flag,
        type=click.IntRange(0, 600_000),
        default=default,
        show_default=default is not None,
        envvar=f"SEATD_{flag.removeprefix('--').replace('-', '_').upper()}",
        show_envvar=True,
        help=text,
    )


DATA: Final = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("var"),
    show_default=True,
    envvar="SEATD_DATA",
    show_envvar=True,
    help="Folder of keys, the embedded store and SQLite.",
)
DATABASE: Final = click.option(
    "--database",
    default="",
    envvar="SEATD_DATABASE",
    show_envvar=True,
    metavar="URL",
    help="sqlite:// or postgresql:// (default: SQLite under --data).",
)
_OPTIONS: Final[tuple[Callable[[Any], Any], ...]] = (
    DATA,
    click.option(
        "--listen",
        default="127.0.0.1:8470",
        show_default=True,
        envvar="SEATD_LISTEN",
        show_envvar=True,
        metavar="HOST:PORT",
        help="Where clients reach it.",
    ),
    click.option(
        "--internal-listen",
        default="127.0.0.1:8471",
        show_default=True,
        envvar="SEATD_INTERNAL_LISTEN",
        show_envvar=True,
        metavar="HOST:PORT",
        help="Where administration, billing, metrics and health are.",
    ),
    click.option(
        "--store",
        default="",
        envvar="SEATD_STORE",
        show_envvar=True,
        metavar="URL",
        help="redis://, rediss://, unix:// or redis+sentinel:// (default: an embedded Valkey).",
    ),
    DATABASE,
    click.option(
        "--secret-file",
        type=click.Path(path_type=Path),
        default=None,
        envvar="SEATD_SECRET_FILE",
        show_envvar=True,
        help="File of the secret (default: secret.key under --data).",
    ),
    click.option(
        "--issuer",
        default="seatd",
        show_default=True,
        envvar="SEATD_ISSUER",
        show_envvar=True,
        metavar="NAME",
        help="What proofs of seats name as their issuer.",
    ),
    click.option(
        "--datev-accounts",
        type=click.Path(path_type=Path, dir_okay=False),
        default=None,
        envvar="SEATD_DATEV_ACCOUNTS",
        show_envvar=True,
        help="TOML file that maps VAT rates, products and customers to DATEV accounts.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, WORKERS_MAX),
        default=1,
        show_default=True,
        envvar="SEATD_WORKERS",
        show_envvar=True,
        help="Processes that serve clients, on one port.",
    ),
    _duration(
        "--q-ms",
        None,
        "Lock delay: a seat is free so long after its lease ran out (default: 500; with sentinels the larger "
        "of --w-ms and twice --delta-ms).",
    ),
    _duration("--delta-ms", 2_000, "Largest offset between the clocks of store nodes."),
    _duration(
        "--w-ms",
        None,
        "How long an old primary may write on after a promotion (default: 0; with sentinels 11000, which is "
        "min-replicas-max-lag and a second).",
    ),
    click.option(
        "--demo",
        is_flag=True,
        envvar="SEATD_DEMO",
        show_envvar=True,
        help="Make demo tenants and print lines to paste.",
    ),
    _duration("--revoke-hold-ms", 60_000, "How long a revoked user may not sit again."),
    click.option(
        "--forget-users-after-days",
        type=click.IntRange(0, 36_500),
        default=0,
        show_default=True,
        envvar="SEATD_FORGET_USERS_AFTER_DAYS",
        show_envvar=True,
        help="Erase the names of users who were not seen for so many days; 0 keeps them.",
    ),
    click.option(
        "--keep-usage-months",
        type=click.IntRange(0, 1_200),
        default=0,
        show_default=True,
        envvar="SEATD_KEEP_USAGE_MONTHS",
        show_envvar=True,
        help="Archive leases of closed months that ended more than so many months ago as Parquet under "
        "DATA/archive; 0 keeps all in the database.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        envvar="SEATD_LOG_LEVEL",
        show_envvar=True,
    ),
)


def takes_settings(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags of `serve`; it is called with `settings`.

    Ends with exit status 2 and a sentence where one of them cannot be served.
    """

    @functools.wraps(function)
    def command(*, listen: str, internal_listen: str, **options: Any) -> None:
        options_of_command = {
            name: options.pop(name) for name in [*options] if name not in Settings.__dataclass_fields__
        }
        options["q_ms"], options["w_ms"] = waits_of(
            options["store"], options["delta_ms"], options["q_ms"], options["w_ms"]
        )
        try:
            settings = checked(
                Settings(
                    listen=parse_address(listen, "--listen"),
                    internal_listen=parse_address(internal_listen, "--internal-listen"),
                    log_console=sys.stderr.isatty(),
                    **options,
                )
            )
        except SettingError as error:
            raise SettingFault(str(error)) from None
        function(settings=settings, **options_of_command)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def masked(url: str) -> str:
    """Write a URL without its password; rather too much is hidden than too little."""
    scheme, mark, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    if at and ":" in user:
        rest = f"{user.partition(':')[0]}:***@{place}"
    where, asked, parameters = rest.partition("?")
    if asked:
        hidden = [
            (name, "***" if _SECRET_PARAMETER.search(name) else value)
            for name, value in parse_qsl(parameters, keep_blank_values=True)
        ]
        where += "?" + urlencode(hidden, safe="*/:")
    return scheme + mark + where


@click.command(epilog="Example: SEATD_STORE=redis://10.0.0.5:6379 seatd config")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@takes_settings
def config(settings: Settings, *, as_json: bool) -> None:
    """Print the settings that `seatd serve` would take, passwords hidden."""
    shown: dict[str, Any] = {
        field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)
    }
    shown |= {
        "store": masked(settings.store) or "embedded",
        "database": masked(settings.database_url),
        "secret_file": settings.secret_path,
    }
    body = {name: value if isinstance(value, bool | int) else str(value) for name, value in shown.items()}
    out = Output(as_json=as_json)
    out.answer(body, lambda: out.facts(body.items()))
