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
        if settings.demo:
            _demonstrate(settings)
        else:
            app.run(settings)
    except SettingError as error:
        raise SettingFault(str(error)) from None


def _demonstrate(settings: Settings) -> None:
    from seatd import app  # noqa: PLC0415 - see above
    from seatd.cli import welcome  # noqa: PLC0415
    from seatd.cli.foreground import alone_in_front  # noqa: PLC0415

    with alone_in_front():
        app.run(settings, lambda served: welcome.show(settings, served))
        welcome.goodbye(settings)
