"""The command `seatd`: groups and commands are imported only when they are called for, so that it starts fast."""

from importlib import import_module
from typing import Any, Final

import click

import seatd

COMMANDS: Final = {
    "serve": "seatd.cli.serve:serve",
}


class LazyGroup(click.Group):
    """A group whose commands are named by module and imported on use."""

    def __init__(self, *args: Any, lazy: dict[str, str] | None = None, **kwargs: Any) -> None:
        """Take `lazy`: command name -> `module:attribute`."""
        super().__init__(*args, **kwargs)
        self._lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List all commands, imported or not."""
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command that is called for."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name].partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self._lazy[cmd_name]} is no command")
        return command


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with `seatd serve --demo`; every command has examples under --help.",
)
@click.version_option(seatd.__version__, prog_name="seatd")
def main() -> None:
    """Rent software by the seat: serve seats, administer tenants, turn use into money."""
