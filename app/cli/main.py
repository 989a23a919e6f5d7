"""The ``agiqa`` command. Subcommands of other packages join through the entry-point group
``agiqa.commands``.
"""

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points, version

import click

# Where each command of ours is: only the one that runs is imported, for the service is not to wait
# for what reads tables.
_OWN: Mapping[str, str] = {
    "serve": "app.cli.serve:serve",
    "doctor": "app.cli.serve:doctor",
    "key": "app.cli.key:key",
    "score": "app.cli.score:score",
    "models": "app.cli.models:models",
    "push": "app.cli.models:push",
    "seal": "app.cli.models:seal",
    "assemble": "app.cli.models:assemble",
    "import-official": "app.cli.models:import_official",
}


class _Commands(click.Group):
    """The group: our commands, and those of installed packages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted({*_OWN, *entry_points(group="agiqa.commands").names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if place := _OWN.get(cmd_name):
            module, _, name = place.partition(":")
            command: click.Command = getattr(importlib.import_module(module), name)
            return command
        found = entry_points(group="agiqa.commands", name=cmd_name)
        return next((entry.load() for entry in found), None)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("agiqa"), prog_name="agiqa")
def main() -> None:
    """Score the quality of images, generated ones above all."""


if __name__ == "__main__":
    main()
