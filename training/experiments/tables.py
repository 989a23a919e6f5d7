"""An experiment's results as tables: measured means, deviations and medians beside published
figures.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from training.evaluation.evaluate import Report
from training.experiments.grid import Grid, Variant
from training.experiments.run import Result
from training.reports.document import Table
from training.reports.published import decimals, value

# The papers' names of our methods.
PAPER_METHODS = {"mp-iqe": "MP-IQE", "clip-agiqa": "CLIP-AGIQA", "clip-iqa-plus": "CLIP-IQA+"}
_HEADS = ("quality", "alignment", "consistency")


def by_variant(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each variant, in the order in which they come."""
    apart: dict[str, list[Result]] = {}
    for result in results:
        apart.setdefault(result.variant, []).append(result)
    return apart


def variants_table(
    grid: Grid, variants: Sequence[Variant], results: Sequence[Result], data_set: str
) -> Table:
    """A row per variant: SRCC and PLCC of quality, mean, deviation and median over the rounds, the
    published figures beside.
    """
    apart = by_variant(results)
    rows = []
    for variant in variants:
        reports = [r.reports[data_set] for r in apart.get(variant.name, ())]
        theirs = [_published(grid, variant, data_set, metric) for metric in ("SRCC", "PLCC")]
        rows.append((variant.name, str(len(reports)), *_both(reports), *theirs))
    header = ("variant", "rounds", *_OURS, "published SRCC", "published PLCC")
    caption = f"Quality on {data_set}, {grid.kind}; mean ± deviation over rounds (median)"
    return Table(header, tuple(rows), caption)


def rounds_table(results: Sequence[Result], data_set: str) -> Table:
    """A row per run: every head's SRCC, with the no-image floor where there is one."""
    reports = [(r, r.reports[data_set]) for r in results if data_set in r.reports]
    heads = [h for h in _HEADS if any(f"{h}_srcc" in report.figures for _, report in reports)]
    floors = any("floor_quality_srcc" in report.figures for _, report in reports)
    header = ("variant", "round", "images", *(f"{head} SRCC" for head in heads))
    header += (("quality floor", "alignment floor") if floors else ()) + ("epochs", "minutes")
    rows = []
    for result, report in reports:
        cells = [number(report.figures.get(f"{head}_srcc")) for head in heads]
        if floors:
            cells += [number(report.figures.get(f"floor_{h}_srcc")) for h in _FLOORS]
        epochs, minutes = str(len(result.history)), f"{result.seconds / 60:.1f}"
        rows.append(
            (result.variant, str(result.round), str(report.images), *cells, epochs, minutes)
        )
    return Table(header, tuple(rows), f"Every run on {data_set}")


_FLOORS = ("quality", "consistency")
_OURS = ("SRCC", "PLCC", "PLCC fitted")


def heads_table(results: Sequence[Result], data_set: str) -> Table:
    """A row per head: the mean over the rounds of one variant, and of its no-image floor."""
    reports = [r.reports[data_set] for r in results]
    rows = []
    for head in _HEADS:
        if f"{head}_srcc" in reports[0].figures:
            floor = "quality" if head == "quality" else "consistency"
            rows.append((head, *_both(reports, head), spread(reports, f"floor_{floor}_srcc")))
    caption = f"All heads on {data_set}; mean ± deviation over {len(reports)} rounds (median)"
    return Table(("head", *_OURS, "no-image floor SRCC"), tuple(rows), caption)


def left_out_table(variants: Sequence[Variant], results: Sequence[Result], data_set: str) -> Table:
    """Leave-one-generator-out: the SRCC on a generator's images of a model that was trained without
    that generator, beside the same images' SRCC by the full model of that round.
    """
    apart = by_variant(results)
    full = next(iter(apart.values()))[0].reports[data_set]
    seen = {head: full.within_generator.get(head, {}) for head in _HEADS}
    rows = []
    for variant in variants:
        for result in apart.get(variant.name, ()):
            figures = result.reports[data_set].figures
            generator = variant.name.removeprefix("without ")
            cells = [number(figures.get("quality_srcc")), number(seen["quality"].get(generator))]
            if "alignment_srcc" in figures:
                cells += [
                    number(figures["alignment_srcc"]),
                    number(seen["alignment"].get(generator)),
                ]
            rows.append((generator, str(result.reports[data_set].images), *cells))
    header = ("generator", "images", "quality, left out", "quality, trained on")
    aligned = ("alignment, left out", "alignment, trained on")
    caption = "SRCC on each generator's test images, left out of training and not"
    wide = rows and len(rows[0]) > len(header)
    return Table((*header, *aligned) if wide else header, tuple(rows), caption)


def cross_table(grid: Grid, results: Sequence[Result]) -> Table:
    """A row per foreign data set: what models trained here reach there, all images."""
    trained = " and ".join(grid.base.data)
    rows = []
    for name in results[0].also if results else ():
        reports = [r.also[name] for r in results]
        method = PAPER_METHODS.get(grid.base.method)
        theirs = value(method, "3", None, trained, name, "SRCC") if method else None
        rows.append((f"{trained} to {name}", str(len(reports)), *_both(reports), number(theirs)))
    header = ("from, to", "rounds", *_OURS, "published SRCC")
    return Table(header, tuple(rows), "Trained on one set, measured on all images of another")


def spread(reports: Sequence[Report], key: str) -> str:
    """Mean ± deviation (median) of a figure over rounds; of one round the figure itself."""
    values = [report.figures[key] for report in reports if key in report.figures]
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return "-"
    if len(finite) == 1:
        return number(finite[0])
    mean, deviation, median = np.mean(finite), np.std(finite, ddof=1), np.median(finite)
    return f"{mean:.3f} ± {deviation:.3f} ({median:.3f})"


def number(value: float | None) -> str:
    """Three decimals; "-" for what isn't known."""
    return "-" if value is None or not np.isfinite(value) else f"{value:.3f}"


def _both(reports: Sequence[Report], head: str = "quality") -> tuple[str, ...]:
    return tuple(spread(reports, f"{head}_{key}") for key in ("srcc", "plcc", "plcc_vqeg"))


def _published(grid: Grid, variant: Variant, data_set: str, metric: str) -> str:
    found = published_value(grid, variant, data_set, metric)
    return "-" if found is None else f"{found:.{decimals([found])}f}"


def published_value(grid: Grid, variant: Variant, data_set: str, metric: str) -> float | None:
    """The paper's figure for a variant on a data set; the variant without a setting of its own is
    the whole method.
    """
    method = PAPER_METHODS.get(grid.base.method)
    if method is None:
        return None
    if variant.setting:
        found = value(method, variant.table, variant.setting, None, data_set, metric)
        if found is not None or variant.setting != "full":
            return found
    if variant.settings:
        return None
    whole: Mapping[str, str | None] = {"MP-IQE": "1", "CLIP-IQA+": "2"}
    setting = "quality; by prompt" if method == "CLIP-AGIQA" else None
    return value(method, whole.get(method), setting, None, data_set, metric)
