"""``agiqa train``."""

import click

from training.commands import options
from training.commands.errors import reported_errors


@click.command()
@click.argument("recipe")
@options.recipe_settings
@options.protocol
@click.option("--report/--no-report", default=True, help="Also write WORK/report/report.html.")
def train(recipe: str, settings: tuple[str, ...], protocol: str | None, report: bool) -> None:
    """Train RECIPE (a YAML file or a built-in name) and write a checkpoint or a backbone. A stopped
    run is resumed.

    Several GPUs: torchrun --nproc-per-node N --no-python agiqa train RECIPE ...
    """
    if protocol:
        settings = (*settings, f"protocol={protocol}")
    with reported_errors():
        from training.backbone import pretrain
        from training.recipe import MethodRecipe, load_recipe, shown_settings
        from training.reports.write import write
        from training.research.documents.training import training_document
        from training.run import train as run

        loaded = load_recipe(recipe, settings)
        shown = [f"--set {setting}" for setting in shown_settings(settings, loaded)]
        command = " ".join(["agiqa train", recipe, *shown])
        if isinstance(loaded, MethodRecipe):
            trained = run(loaded, command)
            if trained is None:  # another process reports
                return
            (part,) = {each.part for each in trained.reports.values()}
            figures = f"quality SRCC {trained.figures['quality_srcc']:.4f} on the {part} part"
            if report:
                folder = loaded.work / "report"
                results = trained.config, trained.reports, trained.progress
                write(training_document(loaded, *results, command), folder)
                figures += f"; {folder / 'report.html'}"
        else:
            reached = pretrain(loaded, command)
            if reached is None:
                return
            figures = ", ".join(f"{key} {value:.4f}" for key, value in reached.items())
    click.echo(f"wrote {loaded.out}: {figures}")
