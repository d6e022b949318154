"""`seatd serve`: the server itself."""

from pathlib import Path

import click

from seatd.config import SettingError, Settings, parse_address


@click.command(
    epilog="""\b
Examples:
  seatd serve --demo                       embedded store, SQLite under ./var, demo tenants
  seatd serve --data /var/lib/seatd --listen 0.0.0.0:8470
  seatd serve --store redis://10.0.0.5:6379 --database postgresql://seatd@db/seatd
"""
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("var"),
    show_default=True,
    envvar="SEATD_DATA",
    show_envvar=True,
    help="Folder of keys, the embedded store and SQLite.",
)
@click.option(
    "--listen",
    default="127.0.0.1:8470",
    show_default=True,
    envvar="SEATD_LISTEN",
    show_envvar=True,
    metavar="HOST:PORT",
    help="Where clients reach it.",
)
@click.option(
    "--internal-listen",
    default="127.0.0.1:8471",
    show_default=True,
    envvar="SEATD_INTERNAL_LISTEN",
    show_envvar=True,
    metavar="HOST:PORT",
    help="Where administration, billing, metrics and health are.",
)
@click.option(
    "--store",
    default="",
    envvar="SEATD_STORE",
    show_envvar=True,
    metavar="URL",
    help="redis://, rediss:// or unix:// (default: an embedded Valkey).",
)
@click.option(
    "--database",
    default="",
    envvar="SEATD_DATABASE",
    show_envvar=True,
    metavar="URL",
    help="sqlite:// or postgresql:// (default: SQLite under --data).",
)
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path),
    default=None,
    envvar="SEATD_SECRET_FILE",
    show_envvar=True,
    help="File of the secret (default: secret.key under --data).",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1),
    default=1,
    envvar="SEATD_WORKERS",
    show_envvar=True,
    help="Server processes; this version runs one.",
)
@click.option(
    "--demo",
    is_flag=True,
    envvar="SEATD_DEMO",
    show_envvar=True,
    help="Make demo tenants and print lines to paste.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    envvar="SEATD_LOG_LEVEL",
    show_envvar=True,
)
def serve(
    *,
    data: Path,
    listen: str,
    internal_listen: str,
    store: str,
    database: str,
    secret_file: Path | None,
    workers: int,
    demo: bool,
    log_level: str,
) -> None:
    """Serve seats until Ctrl-C or SIGTERM; leases outlive a restart."""
    del workers
    from seatd import app  # noqa: PLC0415 - the help of this command needs none of the server

    try:
        app.run(
            Settings(
                data=data,
                listen=parse_address(listen, "--listen"),
                internal_listen=parse_address(internal_listen, "--internal-listen"),
                store=store,
                database=database,
                secret_file=secret_file,
                demo=demo,
                log_level=log_level,
                log_console=click.get_text_stream("stderr").isatty(),
            )
        )
    except SettingError as error:
        raise click.UsageError(str(error)) from None
