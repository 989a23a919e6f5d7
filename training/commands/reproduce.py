"""``agiqa reproduce``: a table of the papers, by one command."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from training.commands import options
from training.commands.errors import reported_errors

if TYPE_CHECKING:
    from training.research.reproduce.jobs import Reproduction

# Without what the ``train`` extra brings, the help still names them; a test holds them to be all.
_TABLES = (
    *("clip-agiqa", "clip-agiqa-ablation", "mp-iqe-1", "mp-iqe-2", "mp-iqe-3", "mp-iqe-4"),
    *("mp-iqe-5", "mp-iqe-6", "liqe"),
)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("table", type=click.Choice(_TABLES), metavar="TABLE")
@click.option("--plan", "only_plan", is_flag=True, help="Only say what it needs and takes.")
@click.option(
    "--data",
    type=_FOLDER,
    default=Path("data"),
    show_default=True,
    help="Holds each data set in a folder of its name, LIQE's label files in IQA_Database.",
)
@options.recipe_settings
@click.option(
    "--weights",
    multiple=True,
    metavar="NAME=FILE",
    help="CLIP's weights of an architecture, instead of a download; may be repeated.",
)
@click.option("--rounds", type=click.IntRange(1), default=10, show_default=True)
@click.option(
    "--protocol",
    type=click.Choice(["paper", "clean"]),
    default="paper",
    show_default=True,
    help="paper: choose epochs on the test part, as published; clean: on a part of the training.",
)
@click.option(
    "--rival", "rivals", multiple=True, metavar="RIVAL", help="pyiqa:NAME or a CSV of scores."
)
@click.option("--partial", is_flag=True, help="Also run on sets of which images are missing.")
@click.option(
    "--tflops",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    help="Of the plan: 10^12 operations a second that the GPU sustains.",
)
@click.option(
    "-o",
    "--out",
    type=_FOLDER,
    default=Path("runs/reproduce"),
    show_default=True,
    help="For all tables: they share what they have in common.",
)
def reproduce(
    table: str,
    only_plan: bool,
    data: Path,
    settings: tuple[str, ...],
    weights: tuple[str, ...],
    rounds: int,
    protocol: Literal["paper", "clean"],
    rivals: tuple[str, ...],
    partial: bool,
    tflops: float,
    out: Path,
) -> None:
    """Run a TABLE of the papers and print it whole, the rivals' published figures included.

    clip-agiqa, or clip-agiqa-ablation for its switches and prompt lengths; mp-iqe-1 to mp-iqe-6, as
    that paper counts them; liqe, on six sets at once.

    Everything that is needed is checked before anything runs. Finished runs are kept and a stopped
    one is resumed: give the same command again.
    """
    with reported_errors():
        from training.research.reproduce.catalogue import TABLES
        from training.research.reproduce.jobs import Reproduction
        from training.research.reproduce.reproduce import planned
        from training.research.reproduce.reproduce import reproduce as run

        chosen = Reproduction(
            table=TABLES[table],
            data=data,
            out=out,
            settings=settings,
            weights=dict(_file(text) for text in weights),
            rounds=rounds,
            protocol=protocol,
            rivals=rivals,
            partial=partial,
        )
        if only_plan:
            for line in planned(chosen, tflops):
                click.echo(line)
            return
        report = run(chosen, _command(chosen), click.echo)
    if report is not None:  # another process reports
        click.echo(f"wrote {report}")


def _file(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals:
        raise click.BadParameter(f"--weights {text!r}: write NAME=FILE, as ViT-B-16-quickgelu=...")
    return name, Path(file)


def _command(chosen: "Reproduction") -> str:
    """As a reader would give it: the folders of this machine are left out."""
    shown = [
        f"--set {shlex.quote(setting)}"
        for setting in chosen.settings
        if not setting.startswith(("data.", "labels."))
    ]
    rounds = [f"--rounds {chosen.rounds}"] if chosen.rounds != 10 else []
    protocol = [f"--protocol {chosen.protocol}"] if chosen.protocol != "paper" else []
    partial = ["--partial"] if chosen.partial else []
    rest = [*shown, *rounds, *protocol, *partial]
    return " ".join([f"agiqa reproduce {chosen.table.name}", *rest])
