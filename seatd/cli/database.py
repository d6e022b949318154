"""`seatd database ...`: the schema of the account database, without a server."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from seatd.cli.client import ApiError, SettingFault
from seatd.cli.settings import DATA, DATABASE
from seatd.config import SettingError, Settings, checked
from seatd.model import Refusal

T = TypeVar("T")


@click.group()
def database() -> None:
    """Bring the account database to the newest schema, or tell which one it has."""


def _url(data: Path, url: str) -> str:
    try:
        return checked(Settings(data=data, database=url)).database_url
    except SettingError as error:
        raise SettingFault(str(error)) from None


def _asked(ask: Callable[[str], Coroutine[Any, Any, T]], url: str) -> T:
    from alembic.util import CommandError  # noqa: PLC0415 - imported where it is needed: slow

    try:
        return asyncio.run(ask(url))
    except Refusal as refusal:
        raise ApiError(f"{refusal.detail} ({refusal.code})", code=refusal.code) from None
    except (CommandError, ValueError) as error:
        raise ApiError(str(error)) from None


@database.command(epilog="Example: seatd database upgrade --database postgresql://seatd@db/seatd")
@DATA
@DATABASE
def upgrade(data: Path, database: str) -> None:
    """Bring the database to the newest schema; `serve` does so at its start."""
    from seatd.database import migrations  # noqa: PLC0415

    url = _url(data, database)
    if not database:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    click.echo(_asked(migrations.upgrade, url))


@database.command(epilog="Example: seatd database current --data /var/lib/seatd")
@DATA
@DATABASE
def current(data: Path, database: str) -> None:
    """Tell the database's schema, and the newest that this seatd knows."""
    from seatd.database import migrations  # noqa: PLC0415

    url = _url(data, database)
    if not database and not (data / "seatd.db").exists():
        raise ApiError(f"There is no database under {data} yet.")
    revision = _asked(migrations.current, url)
    newest = migrations.newest()
    state = "the newest" if revision == newest else f"the newest is {newest}: seatd database upgrade"
    click.echo(f"{revision or 'none'} ({state})")
