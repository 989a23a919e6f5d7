"""The ``agiqa`` command. Subcommands of other packages join through the entry-point group
``agiqa.commands``.
"""

from importlib.metadata import entry_points, version

import click

from app.cli.key import key
from app.cli.models import COMMANDS
from app.cli.score import score
from app.cli.serve import doctor, serve


class _Commands(click.Group):
    """The group, with the commands of installed packages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group="agiqa.commands").names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        found = entry_points(group="agiqa.commands", name=cmd_name)
        return own or next((entry.load() for entry in found), None)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("agiqa"), prog_name="agiqa")
def main() -> None:
    """Score the quality of images, generated ones above all."""


for command in (serve, doctor, key, score, *COMMANDS):
    main.add_command(command)


if __name__ == "__main__":
    main()
