"""An experiment's results as tables: measured means, deviations and medians beside published
figures.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import get_args

import numpy as np

from model.config import Head
from reporting.document import Table
from training.evaluation.results import Report, opinion
from training.methods.base import objective_type
from training.methods.variant import Variant
from training.research.documents.evaluation import number
from training.research.experiments.grid import Grid
from training.research.experiments.run import Result
from training.research.published import decimals, value

# The results of each variant by its name, round by round.
ByVariant = Mapping[str, Sequence[Result]]


def variants_table(
    grid: Grid, variants: Sequence[Variant], results: ByVariant, data_set: str
) -> Table:
    """A row per variant: SRCC and PLCC of quality, mean, deviation and median over the rounds, the
    published figures beside.
    """
    rows = []
    for variant in variants:
        reports = [result.reports[data_set] for result in results[variant.name]]
        theirs = [_published(grid, variant, data_set, metric) for metric in ("SRCC", "PLCC")]
        name = f"{variant.name} ({variant.note})" if variant.note else variant.name
        rows.append((name, str(len(reports)), *agreement_cells(reports), *theirs))
    header = ("variant", "rounds", *_OURS, "published SRCC", "published PLCC")
    caption = f"Quality on {data_set}, {grid.kind}; mean ± deviation over rounds (median)"
    return Table(header, tuple(rows), caption)


def rounds_table(results: Sequence[Result], data_set: str) -> Table:
    """A row per run: every head's SRCC, with the no-image baseline where there is one."""
    reports = [result.reports[data_set] for result in results]
    heads = [head for head in get_args(Head) if any(head in report.heads for report in reports)]
    with_baseline = any(_baseline(report, "quality") is not None for report in reports)
    opinions = _OPINIONS if with_baseline else ()
    header = ("variant", "round", "images", *(f"{head} SRCC" for head in heads))
    header += (*(f"{rated} floor" for rated in opinions), "epochs", "minutes")
    rows = []
    for result, report in zip(results, reports, strict=True):
        cells = [number(r.srcc if (r := report.heads.get(head)) else None) for head in heads]
        cells += [number(_baseline(report, rated)) for rated in opinions]
        epochs, minutes = str(len(result.history)), f"{result.seconds / 60:.1f}"
        rows.append(
            (result.variant, str(result.round), str(report.images), *cells, epochs, minutes)
        )
    return Table(header, tuple(rows), f"Every run on {data_set}, {reports[0].part} part")


_OPINIONS = ("quality", "alignment")
_OURS = ("SRCC", "PLCC", "PLCC fitted")


def _baseline(report: Report, rated: str) -> float | None:
    """That of the heads which are compared with one opinion."""
    found = [result.baseline for head, result in report.heads.items() if opinion(head) == rated]
    return found[0] if found else None


def heads_table(results: Sequence[Result], data_set: str) -> Table:
    """A row per head: the mean over the rounds of one variant, and of its no-image baseline."""
    reports = [r.reports[data_set] for r in results]
    rows = []
    for head in reports[0].heads:
        floor = spread(report.heads[head].baseline for report in reports if head in report.heads)
        rows.append((head, *agreement_cells(reports, head), floor))
    caption = f"All heads on {data_set}; mean ± deviation over {len(reports)} rounds (median)"
    return Table(("head", *_OURS, "no-image floor SRCC"), tuple(rows), caption)


def left_out_table(variants: Sequence[Variant], results: ByVariant, data_set: str) -> Table:
    """Leave-one-generator-out: the SRCC on a generator's images of a model that was trained without
    that generator, beside the same images' SRCC by the full model of that round.
    """
    full = next(iter(results.values()))[0].reports[data_set]
    heads = [head for head in _OPINIONS if head in full.heads]
    rows = []
    for variant in variants:
        generator = variant.name.removeprefix("without ")
        (report,) = (result.reports[data_set] for result in results[variant.name])
        cells = []
        for head in heads:
            cells.append(number(report.heads[head].srcc))
            cells.append(number(full.heads[head].within_generator.get(generator)))
        rows.append((generator, str(report.images), *cells))
    columns = [f"{head}, {how}" for head in heads for how in ("left out", "trained on")]
    caption = "SRCC on each generator's test images, left out of training and not"
    return Table(("generator", "images", *columns), tuple(rows), caption)


def cross_table(grid: Grid, results: Sequence[Result]) -> Table:
    """A row per foreign data set: what models trained here reach there, all images."""
    trained = " and ".join(grid.base.data)
    rows = []
    for name in results[0].also:
        reports = [r.also[name] for r in results]
        method = objective_type(grid.base.method).paper_name
        there = partial(value, table="3", trained_on=trained, tested_on=name, metric="SRCC")
        theirs = there(method=method) if method else None
        rows.append(
            (f"{trained} to {name}", str(len(reports)), *agreement_cells(reports), number(theirs))
        )
    header = ("from, to", "rounds", *_OURS, "published SRCC")
    return Table(header, tuple(rows), "Trained on one set, measured on all images of another")


def spread(values: Iterable[float | None]) -> str:
    """Mean ± deviation (median) of a figure over rounds; of one round the figure itself."""
    finite = [value for value in values if value is not None and np.isfinite(value)]
    if not finite:
        return "-"
    if len(finite) == 1:
        return number(finite[0])
    mean, deviation, median = np.mean(finite), np.std(finite, ddof=1), np.median(finite)
    return f"{mean:.3f} ± {deviation:.3f} ({median:.3f})"


def agreement_cells(reports: Sequence[Report], head: Head = "quality") -> tuple[str, ...]:
    """SRCC, raw and fitted PLCC of a head over rounds."""
    # A round whose images lack prompts or an opinion of the alignment has no such head.
    results = [report.heads[head] for report in reports if head in report.heads]
    return tuple(
        spread(getattr(result, name) for result in results)
        for name in ("srcc", "plcc", "plcc_vqeg")
    )


def _published(grid: Grid, variant: Variant, data_set: str, metric: str) -> str:
    found = published_value(grid, variant, data_set, metric)
    return "-" if found is None else f"{found:.{decimals([found])}f}"


def published_value(grid: Grid, variant: Variant, data_set: str, metric: str) -> float | None:
    """The paper's figure for a variant on a data set; the variant without a setting of its own is
    the whole method.
    """
    objective = objective_type(grid.base.method)
    method = objective.paper_name
    if method is None:
        return None
    figure = partial(value, method=method, tested_on=data_set, metric=metric)
    if variant.setting:
        found = figure(table=variant.table, setting=variant.setting)
        if found is not None or variant.setting != "full":
            return found
    if variant.settings:
        return None
    return figure(table=objective.paper_table, setting=objective.paper_setting)
