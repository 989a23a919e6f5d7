"""An experiment as a report: its table beside the paper's, what stands behind each figure, and how
the runs went.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from model.errors import ModelError
from reporting.document import Document, Figure, Section
from training.data.samples import Sample
from training.evaluation.results import PUBLISHED_PROTOCOL
from training.manifest import device_in_words, git_revision, package_versions
from training.methods.variant import Variant
from training.reports import plots
from training.research.documents.evaluation import evaluation_sections
from training.research.experiments.attention_section import attention_section
from training.research.experiments.grid import Grid
from training.research.experiments.paper_table import paper_tables
from training.research.experiments.rivals_table import rivals_tables
from training.research.experiments.run import Result
from training.research.experiments.tables import (
    ByVariant,
    cross_table,
    heads_table,
    left_out_table,
    published_value,
    rounds_table,
    variants_table,
)
from training.research.explain.features import embed, semantic_features
from training.research.explain.subject import Subject
from training.research.published import Measured, comparison
from training.research.published import rivals as rivals_of
from training.research.rivals.rival import Rival
from training.run import find_backbone

# Images that t-SNE places.
_EMBEDDED = 400


def experiment_document(
    grid: Grid,
    results: Sequence[Result],
    samples: Mapping[str, Sequence[Sample]],
    rivals: Sequence[Rival],
    command: str,
) -> Document:
    """The whole report of finished runs; ``samples`` are those of the recipe's data sets."""
    by_variant = {v.name: [r for r in results if r.variant == v.name] for v in grid.variants}
    full = by_variant[grid.variants[0].name]
    sections: list[Section] = []
    tested = [name for name in grid.base.data if full[0].reports[name].part == "test"]
    for data_set in tested:
        sections += _of_set(grid, by_variant, full, data_set)
        if rivals:
            tables = rivals_tables(rivals, full, samples[data_set], data_set)
            sections.append(Section(f"Rivals on {data_set}", _RIVALS, tables))
    if results[0].also:
        remarks = () if tested else tuple(grid.remarks)
        table = cross_table(grid, results)
        sections.append(Section("Across data sets", "", (table,), findings=remarks))
    if whole := paper_tables(grid, results):
        sections.append(Section("The paper's own table", "", tuple(whole)))
    sections.append(_how_it_went(grid, results))
    sections += _first_run(results, samples)
    title = f"{grid.kind}: {grid.base.name}"
    return Document(title, _summary(grid, results), tuple(sections), _facts(grid, results, command))


_RIVALS = (
    "Rivals scored the test images of every round of the first variant; they were not trained "
    "here, and one that has seen this set may have learned these very images."
)


def _summary(grid: Grid, results: Sequence[Result]) -> str:
    protocol = (
        f"PUBLISHED PROTOCOL: in each run, {PUBLISHED_PROTOCOL}"
        if grid.base.judged_by == "test"
        else "Epochs were chosen on an inner validation part, if at all; each test part was looked "
        "at once."
    )
    return f"{len(results)} runs of {grid.base.method}. {protocol}"


def _of_set(grid: Grid, results: ByVariant, full: Sequence[Result], data_set: str) -> list[Section]:
    main = [v for v in grid.variants if not v.group]
    left_out = [v for v in grid.variants if v.group == "left out"]
    tables = [variants_table(grid, main, results, data_set)]
    if rivals_of(data_set):
        tables.append(comparison(data_set, measured=[_mean(grid, full, data_set)]))
    bars = _bars(grid, main, results, data_set)
    sections = [
        Section(f"Result on {data_set}", "", tuple(tables), (bars,), findings=tuple(grid.remarks))
    ]
    if any("alignment" in r.reports[data_set].heads for r in full):
        text = "The no-image floor is recomputed on each round's split."
        sections.append(Section("All heads", text, (heads_table(full, data_set),)))
    if left_out:
        text = (
            "Each row is a model of its own, tuned on no image of that generator and on none of "
            "the test prompts."
        )
        if data_set in find_backbone(grid.base)[1].trained_on:
            text += (
                " But its backbone was pre-trained on images of every generator, so these figures "
                "are kinder than those for a generator that is new to the whole model."
            )
        table = left_out_table(left_out, results, data_set)
        sections.append(Section("Leave-one-generator-out", text, (table,)))
    return sections


def _mean(grid: Grid, full: Sequence[Result], data_set: str) -> Measured:
    """The first variant as a row beside what others published."""
    quality = [result.reports[data_set].heads["quality"] for result in full]
    figures = {
        "SRCC": float(np.mean([head.srcc for head in quality])),
        "PLCC": float(np.mean([head.plcc for head in quality])),
    }
    protocol = "published protocol" if grid.base.judged_by == "test" else "clean protocol"
    rounds = f"mean of {len(quality)} rounds" if len(quality) > 1 else "one round"
    setting = f"{rounds}, {protocol}"
    return Measured(f"{grid.base.name}, {full[0].variant}", figures, setting)


def _bars(grid: Grid, variants: Sequence[Variant], results: ByVariant, data_set: str) -> Figure:
    """Mean SRCC of each variant with its range over the rounds, and the published figures."""
    srcc = {
        variant.name: [r.reports[data_set].heads["quality"].srcc for r in results[variant.name]]
        for variant in variants
    }
    theirs = {v.name: published_value(grid, v, data_set, "SRCC") for v in variants}
    return plots.bars_with_intervals(
        list(srcc),
        [float(np.mean(values)) for values in srcc.values()],
        [(min(values), max(values)) for values in srcc.values()],
        {name: value for name, value in theirs.items() if value is not None},
    )


def _how_it_went(grid: Grid, results: Sequence[Result]) -> Section:
    tables = tuple(rounds_table(results, data_set) for data_set in grid.base.data)
    main = {variant.name for variant in grid.variants if not variant.group}
    histories = {r.variant: r.history for r in results if r.round == 0 and r.variant in main}
    first = next(iter(histories.values()))
    keys = [key for key in first[-1] if key.startswith(("quality", "score"))][:3]
    if len(first) == 1 or not keys:  # one epoch makes no curve
        return Section("Every run", "", tables)
    text = "Learning curves are of round 0: terms of the loss, and SRCC on the validation part."
    return Section("Every run", text, tables, (plots.learning_curves(histories, keys),))


def _first_run(results: Sequence[Result], samples: Mapping[str, Sequence[Sample]]) -> list[Section]:
    """The first run in detail, and its features in the plane."""
    first = results[0]
    sections: list[Section] = []
    title = f"{first.variant}, round 0"
    for data_set, report in first.reports.items():
        where = f" on {data_set}" if len(first.reports) > 1 else ""
        # Published figures stand beside the mean of the rounds, not beside one of them.
        sections += evaluation_sections(report, f"{title}{where}")
    pictures = (_features(first, samples), attention_section(results, first))
    return [*sections, *filter(None, pictures)]


def _features(first: Result, samples: Mapping[str, Sequence[Sample]]) -> Section | None:
    """t-SNE of the first run's test images; None where its checkpoint is gone, or can't be asked
    for features.
    """
    tested = {row["path"] for row in first.report.predictions}
    test = [s for images in samples.values() for s in images if str(s.path) in tested]
    if len(test) < _FEWEST:
        return None
    try:
        subject = Subject.load(first.checkpoint)
    except ModelError:  # no checkpoint, or a tower that can't be looked into
        return None
    step = -(-len(test) // _EMBEDDED)
    shown = test[::step]
    points = embed(semantic_features(subject, shown))
    figure = plots.embedding(points, [s.mos for s in shown])
    text = (
        "t-SNE of one semantic feature per test image (the normalised mean over its views), by "
        "opinion score. Distances between far groups mean nothing in such a picture."
    )
    return Section("Semantic features", text, (), (figure,))


_FEWEST = 8


def _facts(grid: Grid, results: Sequence[Result], command: str) -> dict[str, str]:
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    sizes = ", ".join(f"{name} ({r.images} test images)" for name, r in results[0].reports.items())
    revisions = dict.fromkeys(r.git_revision for r in results)
    minutes = sum(r.seconds for r in results) / 60
    return {
        "command": command,
        "data": f"{sizes} in round 0",
        "split": grid.base.split.kind,
        "seeds": f"{grid.base.seed} and up, one per round; split {grid.base.split.seed} and up",
        "epochs": str(grid.base.schedule.epochs),
        "git revision": ", ".join(revisions) or git_revision(),
        "device": device_in_words(grid.base.device),
        "time of all runs": f"{minutes:.0f} minutes",
        "versions": versions,
    }
