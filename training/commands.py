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
    """Train RECIPE (a YAML file or a built-in name) and write a checkpoint. A stopped run is
    resumed.
    """
    try:
        from training.recipe import load_recipe
        from training.run import train as run
    except ModuleNotFoundError as error:
        raise _incomplete(error) from error
    try:
        loaded = load_recipe(recipe, settings)
        report = run(loaded, _command(recipe, settings))
    except (TrainingError, ModelError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"wrote {loaded.out}; on unseen prompts: quality SRCC {report.figures['quality_srcc']:.4f}"
    )


def _incomplete(error: ModuleNotFoundError) -> click.ClickException:
    return click.ClickException(f"{error.name} is missing: pip install 'agiqa[train]'")


def _command(recipe: str, settings: tuple[str, ...]) -> str:
    """The command as the model card shows it; folders of this machine are left out."""
    shown = [s for s in settings if s.partition("=")[0] not in {"data", "out", "work"}]
    return " ".join(["agiqa train", recipe, "--set data=AGIQA-3K", *(f"--set {s}" for s in shown)])


@click.command()
@click.option(
    "--checkpoint", default="tiny-clip-agiqa", show_default=True, help="Bundled name or folder."
)
@click.option(
    "--data", required=True, type=click.Path(path_type=Path, exists=True), help="AGIQA-3K's folder."
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
        from training.evaluate import evaluate_folder
    except ModuleNotFoundError as error:
        raise _incomplete(error) from error
    try:
        report = evaluate_folder(model.load(checkpoint, device=device, dtype=dtype), data, part)
    except (TrainingError, ModelError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{checkpoint} on {part}: {report.images} images, {report.prompts} prompts")
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
