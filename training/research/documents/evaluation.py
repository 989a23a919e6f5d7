"""An evaluation as sections of a report: figures beside their baseline, where the errors are, the
images behind them, and what was published.
"""

from collections.abc import Sequence
from dataclasses import replace

from model.config import CheckpointConfig, Head
from reporting.document import Document, Figure, Section, Table
from training.evaluation.metrics import fit_logistic, without
from training.evaluation.results import (
    PUBLISHED_PROTOCOL,
    TARGETS,
    HeadResult,
    Report,
    opinion,
)
from training.manifest import git_revision, package_versions
from training.reports import plots
from training.reports.contact import captioned, contact_sheet, extremes
from training.research.documents.findings import findings, head_findings
from training.research.published import Measured, comparison, rivals
from training.research.rivals.compare import compare
from training.research.rivals.pyiqa_weights import remark
from training.research.rivals.rival import RivalReport

_FEWEST = 3  # images, under which a plot shows nothing
_PICTURES = 8  # of a contact sheet


def evaluation_sections(
    report: Report,
    title: str = "",
    *,
    data_set: str = "",
    trained_on: str = "",
) -> list[Section]:
    """The sections of one evaluation.

    Args:
        report: what was measured; its prediction rows may lack "path" (then there are no contact
            sheets) and "generator" (then nothing is shown by generator).
        title: stands before each section's title, where a report holds more than one evaluation.
        data_set: what was measured on, by our name; without it nothing published stands beside.
        trained_on: the data set of the training, where it is another.
    """
    sections = [_overview(report)]
    for head in report.heads:
        section = _of_head(report, head)
        sentences = head_findings(report, head, data_set, trained_on)
        sections.append(replace(section, findings=sentences))
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
        sections.append(rivals_section(report, rivals_, data_set))
    summary = f"{config.name} ({config.method}, revision {config.revision}) on {data_set}."
    if config.provenance.split.get("protocol") == "paper":
        summary += f" PUBLISHED PROTOCOL: {PUBLISHED_PROTOCOL}"
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    facts = {"command": command, "git revision": git_revision(), "versions": versions}
    return Document(f"{config.name} on {data_set}", summary, tuple(sections), facts)


def rivals_section(report: Report, rivals_: Sequence[RivalReport], data_set: str) -> Section:
    """The model's scores against each rival's on the same images: quality, and of what tells
    alignment every head.
    """
    tables = []
    for head in report.heads:
        if own := [rival for rival in rivals_ if rival.target == opinion(head)]:
            rows = _beside_rivals(report, head, own, data_set)
            tables.append(Table(_RIVALS_HEADER, rows, f"{head.capitalize()}, measured here"))
    text = (
        "Both scored the same images; the interval is of the difference, on the same draws. PLCC "
        "is of the raw scores, which a rival on another scale may lose by its curve alone. A rival "
        "that has seen this set in its training may have learned these very images."
    )
    return Section("Beside rivals", text, tuple(tables))


_RIVALS_HEADER = (
    *("rival", "trained on", "metric", "this model", "rival"),
    *("difference (95 %)", "this model is"),
)


def _beside_rivals(
    report: Report, head: Head, rivals_: Sequence[RivalReport], data_set: str
) -> tuple[tuple[str, ...], ...]:
    predicted, mos = _scores(report, head)
    learned = {rival.name: remark(rival.trained_on, data_set) for rival in rivals_}
    return tuple(
        (
            d.rival,
            learned[d.rival],
            d.metric.upper(),
            number(d.model_figure),
            number(d.rival_figure),
            f"{d.model_figure - d.rival_figure:+.3f} ({d.low:+.3f} to {d.high:+.3f})",
            d.verdict,
        )
        for d in compare(predicted, rivals_, mos, groups=report.image_groups)
    )


def served_section(config: CheckpointConfig, report: Report, served: Report) -> Section:
    """The figures of the crops that the service takes, where the report's are of others."""
    measured = config.measured_policy or config.crop_policy
    rows = tuple(
        (head, number(result.srcc), number(report.heads[head].srcc), number(result.plcc))
        for head, result in served.heads.items()
    )
    header = ("head", "SRCC served", f"SRCC of {measured.kind}", "PLCC served")
    text = (
        f"This report is of the crop policy {measured.kind}; served, the checkpoint takes "
        f"{config.crop_policy.kind}, which has a ceiling on the windows of large images."
    )
    return Section("As served", text, (Table(header, rows, "With the crops of the service"),))


def figures_table(report: Report) -> Table:
    """Each head's figures of agreement, the SRCC with its 95 % interval, the no-image baseline
    beside.
    """
    header = ("head", "SRCC (95 % interval)", "no-image floor", "PLCC", "PLCC fitted")
    rows = [
        (
            head,
            "{} ({} to {})".format(*map(number, (r.srcc, *r.srcc_interval))),
            *map(number, (r.baseline, r.plcc, r.plcc_vqeg, r.krcc, r.rmse, r.rmse_vqeg)),
        )
        for head, r in report.heads.items()
    ]
    caption = f"Agreement with people on {report.images} images ({report.part} part)"
    return Table((*header, "KRCC", "RMSE", "RMSE fitted"), tuple(rows), caption)


def _overview(report: Report) -> Section:
    grouped = report.groups != report.images
    of_groups = f" of {report.groups} prompts or references" if grouped else ""
    text = (
        f"Measured on {report.images} images{of_groups}. "
        f"Intervals are bootstrapped over the {'prompts or references' if grouped else 'images'}. "
        "PLCC and RMSE are of the raw scores; fitted means after the VQEG 4-parameter logistic, "
        "fitted on these very images, which flatters a little."
    )
    if any(result.baseline is not None for result in report.heads.values()):
        text += (
            " The no-image floor is the SRCC of predictions from the means of generator and prompt "
            "in the training part, without a pixel."
        )
    tables = [figures_table(report)]
    if rows := _other_figures(report):
        tables.append(Table(("figure", "value"), rows, "What else was measured"))
    return Section("Figures", text, tuple(tables), findings=findings(report))


def _other_figures(report: Report) -> tuple[tuple[str, str], ...]:
    """What belongs into no column of ``figures_table``, by name."""
    figures = sorted(report.flat_figures.items())
    others = [f for f in figures if f[0].endswith(("_permuted_prompts", "_accuracy"))]
    others += [(name, share.value) for name, share in report.own_prompt.items()]
    return tuple((name.replace("_", " "), number(value)) for name, value in others)


def _of_head(report: Report, head: Head) -> Section:
    predicted, mos = _scores(report, head)
    generators = _generators(report)
    figures = _plots(predicted, mos, generators) if len(mos) >= _FEWEST else []
    figures += _sheets(report, head)
    tables = (_by_generator(report.heads[head], predicted, mos, generators),) if generators else ()
    return Section(
        f"{head.capitalize()} score",
        f"The {head} score against the mean opinion score (MOS) of {opinion(head)}; both in "
        "[0, 1], high = better. Differences are of the raw scores.",
        tables,
        tuple(replace(figure, name=f"{head}-{figure.name}") for figure in figures),
    )


def _plots(
    predicted: Sequence[float], mos: Sequence[float], generators: Sequence[str]
) -> list[Figure]:
    curve = fit_logistic(predicted, mos)
    scatter = plots.predicted_against_mos(predicted, mos, curve, generators)
    figures = [scatter, plots.reliability(predicted, mos)]
    if generators:
        figures.append(plots.residuals_by_group(generators, predicted, mos))
    return figures


def _by_generator(
    result: HeadResult,
    predicted: Sequence[float],
    mos: Sequence[float],
    generators: Sequence[str],
) -> Table:
    """SRCC within each generator, and of all images but its own."""
    inside = result.within_generator
    rows = tuple(
        (name or "unknown", str(generators.count(name)), number(inside.get(name)), number(left))
        for name, left in without(generators, predicted, mos).items()
    )
    header = ("generator", "images", "SRCC within", "SRCC without this generator's images")
    return Table(header, rows, f"By generator; SRCC of all images: {number(result.srcc)}")


def _sheets(report: Report, head: Head) -> list[Figure]:
    target = TARGETS[head]
    return [
        contact_sheet(shown, title)
        for title, chosen in extremes(report.predictions, _PICTURES, head, target).items()
        if (shown := captioned(chosen, head, target))
    ]


def _beside_published(report: Report, data_set: str, trained_on: str) -> list[Section]:
    """A table for each opinion that was published about; no section where there is none."""
    tables = []
    for target in ("quality", "alignment"):
        own = [
            _measured(report, head, trained_on) for head in report.heads if opinion(head) == target
        ]
        if own and rivals(data_set, target):
            tables.append(comparison(data_set, measured=own, target=target))
    text = (
        "Settings are as the papers tell them. Figures for another split, of an unverified split, "
        "or from training on another set are no like-for-like comparison. PLCC here is of the raw "
        "scores, with no curve fitted; papers often fit one first."
    )
    return [Section("Beside published figures", text, tuple(tables))] if tables else []


def _measured(report: Report, head: Head, trained_on: str) -> Measured:
    figures = {"SRCC": report.heads[head].srcc, "PLCC": report.heads[head].plcc}
    return Measured(f"this model, {head}", figures, f"{report.part} part, one split", trained_on)


def _scores(report: Report, head: Head) -> tuple[list[float], list[float]]:
    """The head's score of each image, and the opinion score that it is compared with."""
    rows = report.predictions
    return [row[head] for row in rows], [row[TARGETS[head]] for row in rows]


def _generators(report: Report) -> list[str]:
    """The generator of each image; none where none is known."""
    names = [row.get("generator") or "" for row in report.predictions]
    return names if any(names) else []


def number(value: float | None) -> str:
    """Three decimals; "-" for what isn't known, or isn't defined."""
    return "-" if value is None or value != value else f"{value:.3f}"


def _titled(section: Section, title: str) -> Section:
    figures = tuple(replace(f, name=f"{title}-{f.name}") for f in section.figures)
    lowered = f"{section.title[0].lower()}{section.title[1:]}"
    return replace(section, title=f"{title}: {lowered}", figures=figures)
