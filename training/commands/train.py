"""``agiqa train``."""

import click

from training.commands.errors import said


@click.command()
@click.argument("recipe")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Overrides a setting; dots reach inside.",
)
@click.option(
    "--protocol",
    type=click.Choice(["clean", "paper"]),
    help="paper: repeat the published protocol, which chooses the epoch on the test part.",
)
@click.option("--report/--no-report", default=True, help="Also write WORK/report/report.html.")
def train(recipe: str, settings: tuple[str, ...], protocol: str | None, report: bool) -> None:
    """Train RECIPE (a YAML file or a built-in name) and write a checkpoint or a backbone. A stopped
    run is resumed.

    Several GPUs: torchrun --nproc-per-node N --no-python agiqa train RECIPE ...
    """
    if protocol:
        settings = (*settings, f"protocol={protocol}")
    with said():
        from training.recipe import MethodRecipe, load_recipe
        from training.reports.training import training_document
        from training.reports.write import write
        from training.run import pretrain
        from training.run import train as run

        loaded = load_recipe(recipe, settings)
        command = _command(recipe, settings, list(loaded.data), list(loaded.labels))
        if isinstance(loaded, MethodRecipe):
            trained = run(loaded, command)
            if trained is None:  # another process reports
                return
            figures = f"quality SRCC {trained.figures['quality_srcc']:.4f} on the test part"
            if report:
                folder = loaded.work / "report"
                write(training_document(loaded, trained, command), folder)
                figures += f"; {folder / 'report.html'}"
        else:
            told = pretrain(loaded, command)
            if told is None:
                return
            figures = ", ".join(f"{key} {value:.4f}" for key, value in told.items())
    click.echo(f"wrote {loaded.out}: {figures}")


def _command(recipe: str, settings: tuple[str, ...], data: list[str], labels: list[str]) -> str:
    """The command as the model card shows it; folders of this machine are left out."""
    private = ("data.", "labels.", "out=", "work=")
    shown = [setting for setting in settings if not setting.startswith(private)]
    folders = [f"data.{name}={name}" for name in data]
    folders += [f"labels.{name}=IQA_Database" for name in labels]
    return " ".join(["agiqa train", recipe, *(f"--set {s}" for s in [*folders, *shown])])
