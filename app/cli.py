"""The ``agiqa`` command. Subcommands of other packages join through the entry-point group
``agiqa.commands``.
"""

import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import click

from app.cli_doctor import doctor
from app.cli_models import COMMANDS
from app.cli_score import score


class _Commands(click.Group):
    """The group, with the commands of installed packages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(
            {*super().list_commands(ctx), *(e.name for e in entry_points(group="agiqa.commands"))}
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if own := super().get_command(ctx, cmd_name):
            return own
        found = [e for e in entry_points(group="agiqa.commands") if e.name == cmd_name]
        return found[0].load() if found else None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("agiqa"), prog_name="agiqa")
def main() -> None:
    """Score the quality of images, generated ones above all."""


@main.command()
@click.option("--host", help="Address to listen on  [127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on  [8000]")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Bundled name, checkpoint folder or hf://owner/name; repeat for several.",
)
@click.option("--device", help="auto, cpu, cuda, cuda:1 ...")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="AGIQA_CONFIG",
    help="TOML file with settings.",
)
def serve(config: Path | None, models: tuple[str, ...], **flags: Any) -> None:
    """Run the service."""
    from app.arena import ArenaError
    from app.listening import ListenError
    from app.main import serve as run
    from app.settings import SettingsError, load_settings

    try:
        settings = load_settings({**flags, "models": models or None}, config)
        status = run(settings)
    except (SettingsError, ArenaError, ListenError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(status)


for command in (score, doctor, *COMMANDS):
    main.add_command(command)


if __name__ == "__main__":
    main()
