"""A table of a paper as it stands there, every method and variant of it, with the rows that were
measured here behind those that they repeat.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from model.config import Head
from reporting.document import Table
from training.evaluation.results import Report
from training.methods.base import objective_type
from training.methods.variant import Variant
from training.research.experiments.grid import Grid
from training.research.experiments.run import Result
from training.research.published import Published, decimals, paper_name, published

# The table of the MP-IQE paper whose cells are trained on one set and tested on another.
CROSS_TABLE, _CROSS = "3", "cross-dataset"


class Place(NamedTuple):
    """A column: what was trained on (empty: the same set), tested on, and by which metric, all by
    the papers' names.
    """

    trained_on: str
    tested_on: str
    metric: str

    @property
    def heading(self) -> str:
        """As "LIVE SRCC", or "LIVE to CSIQ SRCC"."""
        start = f"{self.trained_on} to " if self.trained_on else ""
        return f"{start}{self.tested_on} {self.metric}"


@dataclass(frozen=True)
class MeasuredRow:
    """What was measured here of a published row (``method`` and ``setting``, as published): the
    figures of all rounds by column; ``name`` is ours.
    """

    method: str
    setting: str
    name: str
    values: Mapping[Place, Sequence[float]]

    @property
    def key(self) -> tuple[str, str]:
        """Which published row it repeats."""
        return self.method, self.setting


def measured_rows(
    grid: Grid, results: Iterable[Result], table: str, head: Head = "quality", method: str = ""
) -> list[MeasuredRow]:
    """A row per variant of an experiment, as the paper's ``table`` would have it.

    Args:
        grid: the experiment.
        results: what is finished of it.
        table: of the paper; empty where it has no number.
        head: which of the scores.
        method: the paper's name of the method, where it is not that of the recipe.
    """
    finished = list(results)
    rows = []
    for variant in grid.variants:
        own = [result for result in finished if result.variant == variant.name]
        values: dict[Place, list[float]] = {}
        for result in own:
            for place, figure in _figures(grid, result, table, head):
                values.setdefault(place, []).append(figure)
        if values:
            called = method or paper_method(grid)
            setting = _setting(grid, variant, table, head)
            rows.append(MeasuredRow(called, setting, variant.name, values))
    return rows


def paper_method(grid: Grid) -> str:
    """What the papers call the method of an experiment."""
    return objective_type(grid.base.method).paper_name or grid.base.method.upper()


def whole_table(
    cells: Sequence[Published], measured: Sequence[MeasuredRow], caption: str, *, mean: bool = False
) -> Table:
    """The published cells as a table, and the measured rows in it.

    Args:
        cells: of one table of a paper.
        measured: rows of one's own; one that repeats no published row comes last.
        caption: stands above it.
        mean: figures are means over the rounds with deviation; else medians.
    """
    measured = _joined(measured)
    known = {Place(c.trained_on, c.tested_on, c.metric): None for c in cells}
    places = list(known or {place: None for row in measured for place in row.values})
    theirs: dict[tuple[str, str], dict[Place, float]] = {}
    for cell in cells:
        place = Place(cell.trained_on, cell.tested_on, cell.metric)
        theirs.setdefault((cell.method, cell.setting), {})[place] = cell.value
    count = decimals(cell.value for cell in cells)
    rows: list[tuple[str, ...]] = []
    for key, values in theirs.items():
        shown = (f"{values[p]:.{count}f}" if p in values else "-" for p in places)
        rows.append((*key, *shown))
        rows += [_own(row, places, mean=mean) for row in measured if row.key == key]
    rows += [_own(row, places, mean=mean) for row in measured if row.key not in theirs]
    header = ("method", "setting", *(place.heading for place in places))
    return Table(header, tuple(rows), caption, prose=("setting",))


def paper_tables(grid: Grid, results: Sequence[Result]) -> list[Table]:
    """The numbered tables of the paper that an experiment has rows of, but for those that name
    rivals on one set: ``published.comparison`` has these.
    """
    numbers = dict.fromkeys(v.table for v in grid.variants if v.table)
    if results[0].also:
        numbers[CROSS_TABLE] = None
    tables = []
    for number in numbers:
        rows = measured_rows(grid, results, number)
        cells = [cell for cell in published(table=number) if _meets(cell, rows)]
        if cells:
            caption = f"{cells[0].source}, table {number}, with medians measured here"
            tables.append(whole_table(cells, rows, caption))
    return tables


def _joined(measured: Iterable[MeasuredRow]) -> list[MeasuredRow]:
    """One row of those that repeat a published row under one name on several sets."""
    found: dict[tuple[str, str, str], MeasuredRow] = {}
    for row in measured:
        key = (*row.key, row.name)
        values = {**found[key].values, **row.values} if key in found else row.values
        found[key] = replace(row, values=values)
    return list(found.values())


def _meets(cell: Published, rows: Sequence[MeasuredRow]) -> bool:
    return any((cell.trained_on, cell.tested_on) == p[:2] for row in rows for p in row.values)


def _figures(grid: Grid, result: Result, table: str, head: Head) -> Iterable[tuple[Place, float]]:
    """The figures of a run by column: those on foreign sets in the table across sets, else those on
    the test parts.
    """
    if table == CROSS_TABLE:
        trained = " and ".join(paper_name(name) for name in grid.base.data)
        yield from _of_reports(result.also, trained, head)
    else:
        tested = {name: r for name, r in result.reports.items() if r.part == "test"}
        yield from _of_reports(tested, "", head)


def _of_reports(
    reports: Mapping[str, Report], trained_on: str, head: Head
) -> Iterable[tuple[Place, float]]:
    for name, report in reports.items():
        if (found := report.heads.get(head)) is not None:
            yield Place(trained_on, paper_name(name), "PLCC"), found.plcc
            yield Place(trained_on, paper_name(name), "SRCC"), found.srcc


def _setting(grid: Grid, variant: Variant, table: str, head: Head) -> str:
    """What the published row of a variant calls its setting; ours where there is none."""
    if table == CROSS_TABLE:
        return _CROSS
    if table and variant.table == table:
        return variant.setting
    if variant.settings or variant.group:
        return variant.name
    whole = objective_type(grid.base.method).paper_setting or ""
    return whole.replace("quality", head)


def _own(row: MeasuredRow, places: Sequence[Place], *, mean: bool) -> tuple[str, ...]:
    rounds = sorted({len(values) for values in row.values.values()})
    counted = " or ".join(map(str, rounds))
    statistic = f"{'mean' if mean else 'median'} of {counted} round{'s' * (rounds[-1] > 1)}"
    cells = (_over_rounds(row.values.get(place, ()), mean=mean) for place in places)
    return (f"{row.method}, measured here", f"{row.name}; {statistic}", *cells)


def _over_rounds(values: Sequence[float], *, mean: bool) -> str:
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return "-"
    if not mean:
        return f"{np.median(finite):.3f}"
    spread = f" ± {np.std(finite, ddof=1):.4f}" if len(finite) > 1 else ""
    return f"{np.mean(finite):.4f}{spread}"
