"""``agiqa experiment``: the papers' tables as commands."""

from pathlib import Path

import click

from training.commands import options
from training.commands.errors import reported_errors

_KINDS = ("rounds", "ablation", "prompt-length", "cross-dataset", "data-efficiency")


@click.command()
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("recipe")
@options.recipe_settings
@click.option("--rounds", type=click.IntRange(1), help="Splits per variant. [rounds: 10, else 1]")
@options.protocol
@click.option(
    "--test",
    "tests",
    multiple=True,
    metavar="NAME=FOLDER",
    help="A data set to measure every trained model on as a whole.",
)
@click.option(
    "--rival", "rivals", multiple=True, metavar="RIVAL", help="pyiqa:NAME or a CSV of scores."
)
@click.option(
    "--leave-one-out/--no-leave-one-out",
    default=True,
    show_default=True,
    help="rounds, of generated images: also train without each generator.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="[runs/experiments/...]")
def experiment(
    kind: str,
    recipe: str,
    settings: tuple[str, ...],
    rounds: int | None,
    protocol: str | None,
    tests: tuple[str, ...],
    rivals: tuple[str, ...],
    leave_one_out: bool,
    out: Path | None,
) -> None:
    """Run the grid of RECIPE (a YAML file or a built-in name) that KIND names, and write its tables
    and plots beside the published figures.

    Finished runs are kept and a stopped one is resumed: give the same command again.
    """
    if protocol:
        settings = (*settings, f"protocol={protocol}")
    with reported_errors():
        from training.research.experiments.experiment import Request, run_experiment

        request = Request(
            kind=kind,
            recipe=recipe,
            settings=settings,
            rounds=rounds or (10 if kind == "rounds" else 1),
            tests=dict(_pair(test) for test in tests),
            rivals=rivals,
            leave_one_out=leave_one_out,
            out=out,
        )
        document = run_experiment(request)
    if document is not None:  # another process reports
        click.echo(f"wrote {document}")


def _pair(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals or not Path(folder).is_dir():
        raise click.BadParameter(f"--test {text!r}: write NAME=FOLDER of a data set that is there")
    return name, Path(folder)
