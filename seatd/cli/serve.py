"""`seatd serve`: the server itself."""

import click

from seatd.cli.client import SettingFault
from seatd.cli.settings import takes_settings
from seatd.config import SettingError, Settings


@click.command(
    epilog="""\b
Examples:
  seatd serve --demo                       embedded store, SQLite under ./var, demo tenants
  seatd serve --data /var/lib/seatd --listen 0.0.0.0:8470
  seatd serve --store redis://10.0.0.5:6379 --database postgresql://seatd@db/seatd
"""
)
@takes_settings
def serve(settings: Settings) -> None:
    """Serve seats until Ctrl-C or SIGTERM; leases outlive a restart."""
    from seatd import app  # noqa: PLC0415 - the help of this command needs none of the server

    try:
        app.run(settings)
    except SettingError as error:
        raise SettingFault(str(error)) from None
