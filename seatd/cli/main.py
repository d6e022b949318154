"""The command `seatd`: groups and commands are imported only when they are called for, so that it starts fast."""

from importlib import import_module
from typing import Any, Final

import click

import seatd

COMMANDS: Final = {
    "audit": "seatd.cli.access:audit Show what was done, when, and by which key.",
    "billing": "seatd.cli.billing:billing Price lists, months, charges and usage.",
    "bind": "seatd.cli.book:bind Name users for a product.",
    "book": "seatd.cli.book:book Book an absolute quantity of a product.",
    "config": "seatd.cli.settings:config Print the settings that `seatd serve` would take, passwords hidden.",
    "database": "seatd.cli.database:database Bring the account database to the newest schema, or tell which one it has.",
    "key": "seatd.cli.access:key Make, list and revoke keys: of a tenant, or without one of the house.",
    "meter": "seatd.cli.book:meter Report a metered quantity.",
    "revoke": "seatd.cli.access:revoke_lease End a lease; its seat is free once its client cannot believe in it.",
    "serve": "seatd.cli.serve:serve Serve seats until Ctrl-C or SIGTERM; leases outlive a restart.",
    "switch": "seatd.cli.tenants:switch Switch a tenant's tariff now; leases of the other tariff end.",
    "tenant": "seatd.cli.tenants:tenant Make, change, show and list tenants.",
    "unbind": "seatd.cli.book:unbind End bindings; a named seat ends with its binding.",
    "verify": "seatd.cli.verify:verify Try whether this deployment keeps its promises, on a throwaway tenant.",
    "who": "seatd.cli.tenants:who Show who holds which seat, since when, until when.",
}


class LazyGroup(click.Group):
    """A group whose commands are named by module, and imported when called."""

    def __init__(self, *args: Any, lazy: dict[str, str] | None = None, **kwargs: Any) -> None:
        """Take `lazy`: command name -> `module:attribute`, then what its help says in short, if known."""
        super().__init__(*args, **kwargs)
        self._lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List all commands, imported or not."""
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command that is called for."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        target = self._lazy[cmd_name].partition(" ")[0]
        module, _, attribute = target.partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{target} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing those whose help is known."""
        rows = [(name, self._short_help(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _short_help(self, ctx: click.Context, name: str) -> str:
        known = self._lazy.get(name, "").partition(" ")[2]
        if known:
            return known
        command = self.get_command(ctx, name)
        return command.get_short_help_str(100) if command else ""


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Examples:
  seatd serve --demo
  seatd tenant add acme --tariff team --seats 50
  seatd who acme
Commands speak to the internal listener (SEATD_URL) with the admin key (SEATD_ADMIN_KEY, or --key-file);
serve, database, config, billing rate and verify need no server.  Every command has examples under --help.
""",
)
@click.version_option(seatd.__version__, prog_name="seatd")
def main() -> None:
    """Rent software by the seat: serve seats, administer tenants, turn use into money."""
