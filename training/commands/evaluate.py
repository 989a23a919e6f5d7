"""``agiqa evaluate``."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.config import CROP_POLICIES
from training.commands import options
from training.commands.errors import reported_errors

if TYPE_CHECKING:
    from model.config import CheckpointConfig
    from model.scorer import Scorer
    from training.evaluation.degradation import Falls
    from training.evaluation.results import Report
    from training.research.rivals.rival import RivalReport


@click.command()
@options.checkpoint
@click.option(
    "--data",
    required=True,
    type=options.FOLDER,
    help="Folder of a data set; agiqa data check says which.",
)
@click.option(
    "--part",
    default="test",
    show_default=True,
    help="Part of the checkpoint's own split; all; or unseen: what it was not trained on.",
)
@options.declared_range
@options.lower_better
@click.option(
    "--rival",
    "rivals",
    multiple=True,
    metavar="RIVAL",
    help="Also measure pyiqa:NAME or a CSV of scores on the same images, of alignment with "
    "@alignment behind it; may be repeated.",
)
@click.option(
    "--degraded",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Also degrade the N best-rated images, to see whether their quality falls.",
)
@click.option(
    "--labels",
    type=options.FOLDER,
    help="Folder of LIQE's label files: scenes and distortions, and LIQE's own split.",
)
@click.option(
    "--crop-policy", type=click.Choice(CROP_POLICIES), help="Other crops  [the checkpoint's own]"
)
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="That of the cards on every machine; auto: as the service computes here.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Also write the report as JSON.")
@click.option(
    "--report",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also write FOLDER/report.html with tables, plots and contact sheets.",
)
def evaluate(
    checkpoint: str,
    data: Path,
    part: str,
    declared: tuple[float, float] | None,
    lower_better: bool,
    rivals: tuple[str, ...],
    degraded: int,
    labels: Path | None,
    crop_policy: str | None,
    device: str,
    dtype: str,
    out: Path | None,
    folder: Path | None,
) -> None:
    """Measure a checkpoint on rated images, beside the no-image floor and rivals."""
    if lower_better and not declared:
        raise click.UsageError("--lower-better belongs to --range")
    with reported_errors():
        from training.data.datasets import which
        from training.evaluation.degradation import clean, falls
        from training.evaluation.evaluate import evaluate as measure
        from training.evaluation.evaluate import part_of
        from training.prepared_data import labelled
        from training.research.rivals.rival import measure_rival, parse_rival
        from training.splits.split import Split

        others = [parse_rival(rival, device) for rival in rivals]
        samples = which(data, declared, lower_better).read(data)
        scorer = _scorer(checkpoint, device=device, dtype=dtype, crop_policy=crop_policy)
        if labels:
            split = Split.of_provenance(scorer.config.provenance.split)
            samples = labelled(samples, labels, split)
        parts = part_of(scorer.config, samples, part)
        served = None
        if crop_policy is None and (policy := scorer.config.measured_policy):
            served = measure(scorer, parts, part)
            scorer = scorer.with_policy(policy)
        report = measure(scorer, parts, part)
        reports = [measure_rival(rival, parts[part]) for rival in others]
        _show(checkpoint, report, scorer.config.provenance.split.get("protocol"))
        _show_rivals(reports, samples[0].dataset)
        if served:
            _show_served(scorer.config, served)
        fallen = falls(scorer, clean(parts[part], degraded)) if degraded else None
        if fallen:
            _show_falls(fallen)
        if out:
            _write_json(out, report, served, fallen)
        if folder:
            _write_report(folder, scorer.config, report, reports, samples[0].dataset, served)


def _write_report(
    folder: Path,
    config: "CheckpointConfig",
    report: "Report",
    rivals: Sequence["RivalReport"],
    data_set: str,
    served: "Report | None",
) -> None:
    from training.reports.write import write
    from training.research.documents.evaluation import evaluation_document, served_section

    shown = _command(click.get_current_context())
    document = evaluation_document(config, report, rivals, data_set, shown)
    if served:
        sections = (*document.sections, served_section(config, report, served))
        document = replace(document, sections=sections)
    write(document, folder)
    click.echo(f"wrote {folder / 'report.html'}", err=True)


def _show_rivals(reports: Sequence["RivalReport"], data_set: str) -> None:
    from training.research.rivals.pyiqa_weights import remark

    for rival in reports:
        shown = ", ".join(f"{k} {v:.4f}" for k, v in rival.figures.items())
        seen = remark(rival.trained_on, data_set)
        click.echo(f"  rival {rival.name} ({rival.target}; trained on: {seen}): {shown}")


def _scorer(checkpoint: str, **options: Any) -> "Scorer":
    import model

    try:
        return model.load(checkpoint, **options)
    except ValueError as error:  # crops that do not suit the method
        raise click.ClickException(str(error)) from error


_NOT_SHOWN = {"device", "out", "folder"}


def _command(context: click.Context) -> str:
    """As a reader would give it: folders by their names; where it computes and writes is left
    out.
    """
    words = ["agiqa evaluate"]
    for option in context.command.params:
        value = context.params.get(option.name or "")
        if option.name in _NOT_SHOWN or value in (None, (), False, 0, "float32"):
            continue
        for one in value if option.multiple else [value]:
            words += [option.opts[0], *_arguments(one)]
    return " ".join(words)


def _arguments(value: object) -> list[str]:
    if value is True:
        return []
    if isinstance(value, tuple):
        return [f"{number:g}" for number in value]
    return [value.resolve().name if isinstance(value, Path) else str(value)]


def _show(checkpoint: str, report: "Report", protocol: str | None) -> None:
    """The figures with their intervals."""
    from training.evaluation.results import PUBLISHED_PROTOCOL

    click.echo(f"{checkpoint} on {report.part}: {report.images} images, {report.groups} groups")
    if protocol == "paper":
        click.echo(f"  published protocol: {PUBLISHED_PROTOCOL}")
    intervals = report.flat_intervals
    for key, value in report.flat_figures.items():
        interval = "   ({:.3f} to {:.3f})".format(*intervals[key]) if key in intervals else ""
        click.echo(f"  {key:36} {value:7.4f}{interval}")
    for head, result in report.heads.items():
        if (effect := result.prompt_effect) is not None:
            click.echo(f"  {f'{head}_srcc less permuted prompts':36} {effect:7.4f}")


def _show_served(config: "CheckpointConfig", served: "Report") -> None:
    """The figures with the crops that the service takes, beside those that were just shown."""
    measured, served_kind = config.measured_policy or config.crop_policy, config.crop_policy.kind
    click.echo(f"  these are of the crops {measured.kind!r}; served, it takes {served_kind!r}:")
    for key, value in served.flat_figures.items():
        click.echo(f"  {'served_' + key:36} {value:7.4f}")


def _show_falls(fallen: "Falls") -> None:
    """The rank correlations, and the mean quality from the image itself to the strongest."""
    click.echo(f"degraded, {fallen.images} images: SRCC of strength and quality; mean quality")
    for kind, value in fallen.srcc.items():
        qualities = " ".join(f"{quality:.3f}" for quality in fallen.quality[kind])
        click.echo(f"  {kind:36} {value:7.4f}   {qualities}")


def _write_json(
    out: Path, report: "Report", served: "Report | None", fallen: "Falls | None"
) -> None:
    from model.store.files import write_atomically

    content = report.as_dict() | {"predictions": report.predictions}
    if served:
        content["served"] = served.flat_figures
    if fallen:
        content["degraded"] = asdict(fallen)
    write_atomically(out, json.dumps(content, indent=2).encode())
    click.echo(f"wrote {out}", err=True)
