"""``agiqa data``."""

from pathlib import Path

import click

from training.commands import options
from training.commands.errors import reported_errors


@click.group()
def data() -> None:
    """Data sets on disk."""


@data.command()
@click.argument("folder", type=options.FOLDER)
@click.option("--quick", is_flag=True, help="Read only the headers of the images.")
@options.declared_range
@options.lower_better
@click.option(
    "--table", "file", metavar="FILE.csv", help="Which CSV, in a folder that has several."
)
@click.option(
    "--plot",
    "picture",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="Also draw the histograms of the scores.",
)
def check(
    folder: Path,
    quick: bool,
    declared: tuple[float, float] | None,
    lower_better: bool,
    file: str | None,
    picture: Path | None,
) -> None:
    """Say what data set FOLDER is, and whether it is usable as it lies there.

    Every listed image is decoded. Exit status: 0 when each of them is there, once, and readable; 1
    when not, or when FOLDER is no data set.
    """
    if lower_better and not declared:
        raise click.UsageError("--lower-better belongs to --range")
    with reported_errors():
        from training.data import check_report
        from training.data.check import check as look
        from training.data.datasets import which

        found = look(folder, which(folder, declared, lower_better, file), quick=quick)
        click.echo("\n".join(check_report.lines(found)))
        if picture:
            try:
                check_report.plot(found, picture)
            except (OSError, ValueError) as error:
                raise click.ClickException(f"{picture} can't be written: {error}") from error
            click.echo(f"wrote {picture}", err=True)
    if not found.usable:
        raise click.exceptions.Exit(1)
