"""An evaluation as sections of a report: figures beside their floor, where the errors are, the
images behind them, and what was published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from model.config import CheckpointConfig
from training.evaluation.compare import compare
from training.evaluation.evaluate import TARGETS, Report
from training.evaluation.metrics import fit_logistic, without
from training.evaluation.rivals import RivalReport
from training.manifest import git_revision, package_versions
from training.reports import plots
from training.reports.contact import captioned, contact_sheet, extremes
from training.reports.document import Document, Figure, Section, Table
from training.reports.findings import (
    findings,
    floor_of,
    head_findings,
    interval_of,
    measured_heads,
    opinion,
)
from training.reports.published import Measured, comparison, rivals

Row = Mapping[str, Any]

# Columns of the first table, by the name that ``metrics.agreement`` gives them.
_COLUMNS = {
    "plcc": "PLCC",
    "plcc_vqeg": "PLCC fitted",
    "krcc": "KRCC",
    "rmse": "RMSE",
    "rmse_vqeg": "RMSE fitted",
}
_FEWEST = 3  # images, under which a plot shows nothing


def evaluation_sections(
    report: Report,
    title: str = "",
    *,
    data_set: str = "",
    trained_on: str = "",
    pictures: int = 8,
) -> list[Section]:
    """The sections of one evaluation.

    Args:
        report: what was measured; its prediction rows may lack "path" (then there are no contact
            sheets) and "generator" (then nothing is told by generator).
        title: stands before each section's title, where a report holds several evaluations.
        data_set: what was measured on, by our name; by default what the rows' "dataset" says.
            Without either, nothing published stands beside.
        trained_on: the data set of the training, where it is another.
        pictures: how many images each contact sheet holds.
    """
    data_set = data_set or str((report.predictions or [{}])[0].get("dataset", ""))
    sections = [_overview(report)]
    for head in measured_heads(report):
        section = _of_head(report, head, pictures)
        told = head_findings(report, head, data_set, trained_on)
        sections.append(replace(section, findings=told))
    if data_set:
        sections += _beside_published(report, data_set, trained_on)
    if not title:
        return sections
    return [_titled(section, title) for section in sections]


def evaluation_document(
    config: CheckpointConfig,
    report: Report,
    rivals_: Sequence[RivalReport],
    data_set: str,
    command: str,
) -> Document:
    """The report of ``agiqa evaluate``."""
    trained_on = " and ".join(config.provenance.trained_on)
    foreign = trained_on if data_set not in config.provenance.trained_on else ""
    sections = evaluation_sections(report, data_set=data_set, trained_on=foreign)
    if rivals_:
        sections.append(rivals_section(report, rivals_))
    summary = f"{config.name} ({config.method}, revision {config.revision}) on {data_set}."
    if config.provenance.split.get("protocol") == "paper":
        summary += (
            " PUBLISHED PROTOCOL: the epoch was chosen on the test part, so these figures are too "
            "good; they compare with published ones only."
        )
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    facts = {"command": command, "git revision": git_revision(), "versions": versions}
    return Document(f"{config.name} on {data_set}", summary, tuple(sections), facts)


def rivals_section(report: Report, rivals_: Sequence[RivalReport]) -> Section:
    """The quality score against each rival's on the same images."""
    rows = _rated(report.predictions, "quality")
    predicted, mos = [row["quality"] for row in rows], [row["mos"] for row in rows]
    told = tuple(
        (
            d.rival,
            d.metric.upper(),
            _number(d.model_figure),
            _number(d.rival_figure),
            f"{d.model_figure - d.rival_figure:+.3f} ({d.low:+.3f} to {d.high:+.3f})",
            d.verdict,
        )
        for d in compare(predicted, rivals_, mos)
    )
    header = ("rival", "metric", "this model", "rival", "difference (95 %)", "this model is")
    text = (
        "Both scored the same images; the interval is of the difference, on the same draws. PLCC "
        "is of the raw scores, which a rival on another scale may lose by its curve alone."
    )
    return Section("Beside rivals", text, (Table(header, told, "Quality, measured here"),))


def figures_table(report: Report) -> Table:
    """Each head's figures of agreement, the SRCC with its 95 % interval, the no-image floor
    beside.
    """
    heads = measured_heads(report)
    columns = [c for c in _COLUMNS if any(f"{head}_{c}" in report.figures for head in heads)]
    header = ("head", "SRCC (95 % interval)", "no-image floor")
    rows = [
        (
            head,
            _with_interval(report, f"{head}_srcc"),
            _number(floor_of(report, head)),
            *(_number(report.figures.get(f"{head}_{column}")) for column in columns),
        )
        for head in heads
    ]
    caption = f"Agreement with people on {report.images} images ({report.part} part)"
    return Table((*header, *(_COLUMNS[c] for c in columns)), tuple(rows), caption)


def _overview(report: Report) -> Section:
    grouped = report.groups != report.images
    of_groups = f" of {report.groups} prompts or references" if grouped else ""
    text = (
        f"Measured on {report.images} images{of_groups}. "
        "Intervals are bootstrapped over the images. PLCC and RMSE are of the raw scores; fitted "
        "means after the VQEG 4-parameter logistic, fitted on these very images, which flatters a "
        "little."
    )
    if any(floor_of(report, head) is not None for head in measured_heads(report)):
        text += (
            " The no-image floor is the SRCC of predictions from the means of generator and prompt "
            "in the training part, without a pixel."
        )
    tables = [figures_table(report)]
    shown = {f"{head}_{c}" for head in TARGETS for c in ("srcc", *_COLUMNS)}
    shown |= {f"floor_{head}_srcc" for head in TARGETS}
    if rest := sorted(report.figures.keys() - shown):
        rows = tuple((key.replace("_", " "), _with_interval(report, key)) for key in rest)
        tables.append(Table(("figure", "value"), rows, "What else was measured"))
    return Section("Figures", text, tuple(tables), findings=findings(report))


def _of_head(report: Report, head: str, pictures: int) -> Section:
    rows = _rated(report.predictions, head)
    figures = _plots(rows, head) if len(rows) >= _FEWEST else []
    figures += _sheets(rows, head, pictures)
    return Section(
        f"{head.capitalize()} score",
        f"The {head} score against the mean opinion score (MOS) of {opinion(head)}; both in "
        "[0, 1], high = better. Differences are of the raw scores.",
        _by_generator(report, head, rows),
        tuple(replace(figure, name=f"{head}-{figure.name}") for figure in figures),
    )


def _plots(rows: Sequence[Row], head: str) -> list[Figure]:
    predicted, mos = [row[head] for row in rows], [row[TARGETS[head]] for row in rows]
    generators = _generators(rows)
    curve = fit_logistic(predicted, mos)
    scatter = plots.predicted_against_mos(predicted, mos, curve, generators or None)
    figures = [scatter, plots.reliability(predicted, mos)]
    if generators:
        figures.append(plots.residuals_by_group(generators, predicted, mos))
    return figures


def _by_generator(report: Report, head: str, rows: Sequence[Row]) -> tuple[Table, ...]:
    """SRCC within each generator, and of all images but its own."""
    inside, generators = report.within_generator.get(head, {}), _generators(rows)
    if not inside and not generators:
        return ()
    predicted, mos = [row[head] for row in rows], [row[TARGETS[head]] for row in rows]
    left = dict(without(generators, predicted, mos)) if generators else {}
    cells = tuple(
        (
            name or "unknown",
            str(generators.count(name)) if generators else "-",
            _number(inside.get(name)),
            _number(left.get(name)),
        )
        for name in sorted(inside.keys() | left.keys())
    )
    header = ("generator", "images", "SRCC within", "SRCC without this generator's images")
    whole = _number(report.figures[f"{head}_srcc"])
    return (Table(header, cells, f"By generator; SRCC of all images: {whole}"),)


def _sheets(rows: Sequence[Row], head: str, count: int) -> list[Figure]:
    apart = extremes(rows, count, head, TARGETS[head])
    sheets = {
        "Most over-estimated": apart.over,
        "Most under-estimated": apart.under,
        "In best agreement": apart.best,
    }
    return [
        contact_sheet(shown, title)
        for title, chosen in sheets.items()
        if (shown := captioned(chosen, head, TARGETS[head]))
    ]


def _beside_published(report: Report, data_set: str, trained_on: str) -> list[Section]:
    """A table for each opinion that was published about; no section where there is none."""
    tables = []
    for target in ("quality", "alignment"):
        heads = [head for head in measured_heads(report) if opinion(head) == target]
        if heads and rivals(data_set, target):
            own = [_measured(report, head, trained_on) for head in heads]
            tables.append(comparison(data_set, measured=own, target=target))
    text = (
        "Settings are as the papers tell them. Figures for another split, of an unverified split, "
        "or from training on another set are no like-for-like comparison. PLCC here is of the raw "
        "scores, with no curve fitted; papers often fit one first."
    )
    return [Section("Beside published figures", text, tuple(tables))] if tables else []


def _measured(report: Report, head: str, trained_on: str) -> Measured:
    figures = {name.upper(): report.figures.get(f"{head}_{name}") for name in ("srcc", "plcc")}
    told = {name: value for name, value in figures.items() if value is not None}
    return Measured(f"this model, {head}", told, f"{report.part} part, one split", trained_on)


def _rated(rows: Sequence[Row], head: str) -> list[Row]:
    return [r for r in rows if r.get(head) is not None and r.get(TARGETS[head]) is not None]


def _generators(rows: Sequence[Row]) -> list[str]:
    """The generator of each row; none where no row tells one."""
    names = [str(row.get("generator") or "") for row in rows]
    return names if any(names) else []


def _with_interval(report: Report, key: str) -> str:
    told = _number(report.figures[key])
    if key not in report.intervals:
        return told
    low, high = interval_of(report, key)
    return f"{told} ({_number(low)} to {_number(high)})"


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"


def _titled(section: Section, title: str) -> Section:
    figures = tuple(replace(f, name=f"{title}-{f.name}") for f in section.figures)
    lowered = f"{section.title[0].lower()}{section.title[1:]}"
    return replace(section, title=f"{title}: {lowered}", figures=figures)
