"""``agiqa train`` and ``agiqa evaluate``: the subcommands that this package adds to the command
line.

The ``agiqa`` command finds them through the entry-point group ``agiqa.commands``, so ``app``
imports nothing here.
"""

import json
import sys
from pathlib import Path

import click

from model.errors import ModelError
from training.errors import TrainingError


@click.command()
@click.argument("recipe")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Overrides a setting; dots reach inside.",
)
def train(recipe: str, settings: tuple[str, ...]) -> None:
    """Train RECIPE (a YAML file or a built-in name) and write a checkpoint or a backbone. A stopped
    run is resumed.
    """
    try:
        from training.recipe import MethodRecipe, load_recipe
        from training.run import pretrain
        from training.run import train as run
    except ModuleNotFoundError as error:
        raise _incomplete(error) from error
    try:
        loaded = load_recipe(recipe, settings)
        command = _command(recipe, settings, list(loaded.data))
        if isinstance(loaded, MethodRecipe):
            srcc = run(loaded, command).figures["quality_srcc"]
            figures = f"quality SRCC {srcc:.4f} on the test part"
        else:
            figures = ", ".join(f"{k} {v:.4f}" for k, v in pretrain(loaded, command).items())
    except (TrainingError, ModelError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"wrote {loaded.out}: {figures}")


def _incomplete(error: ModuleNotFoundError) -> click.ClickException:
    return click.ClickException(f"{error.name} is missing: pip install 'agiqa[train]'")


def _command(recipe: str, settings: tuple[str, ...], data: list[str]) -> str:
    """The command as the model card shows it; folders of this machine are left out."""
    private = ("data.", "out=", "work=")
    shown = [setting for setting in settings if not setting.startswith(private)]
    folders = [f"data.{name}={name}" for name in data]
    return " ".join(["agiqa train", recipe, *(f"--set {s}" for s in [*folders, *shown])])


@click.command()
@click.option(
    "--checkpoint", default="tiny-clip-agiqa", show_default=True, help="Bundled name or folder."
)
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="Folder of AGIQA-3K or LIVE-Challenge.",
)
@click.option(
    "--part", default="test", show_default=True, help="Part of the checkpoint's own split, or all."
)
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="auto", show_default=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Also write the report as JSON.")
def evaluate(
    checkpoint: str, data: Path, part: str, device: str, dtype: str, out: Path | None
) -> None:
    """Measure a checkpoint on rated images, beside the no-image floor."""
    import model
    from model.checkpoint import write_atomically

    try:
        from training.evaluation.evaluate import evaluate_folder
    except ModuleNotFoundError as error:
        raise _incomplete(error) from error
    try:
        report = evaluate_folder(model.load(checkpoint, device=device, dtype=dtype), data, part)
    except (TrainingError, ModelError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{checkpoint} on {part}: {report.images} images, {report.groups} groups")
    for key, value in report.figures.items():
        interval = report.intervals.get(key)
        click.echo(
            f"  {key:36} {value:7.4f}"
            + (f"   ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
        )
    if out:
        write_atomically(
            out,
            json.dumps(report.as_dict() | {"predictions": report.predictions}, indent=2).encode(),
        )
        click.echo(f"wrote {out}", file=sys.stderr)
