"""The published figures: every cell of the papers' tables and the rivals' figures, to stand beside
what is measured here.

Data sets have two names: ours, and the abbreviations of the papers (``PAPER_NAMES``); either is
understood wherever one is asked for.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, TypedDict, Unpack

from reporting.document import Table

# Our names of data sets, and the papers'. A set that isn't here is called the same by both.
PAPER_NAMES = {
    "LIVE-Challenge": "LIVEC",
    "KADID-10k": "KADID",
    "KonIQ-10k": "KonIQ",
}

# Tables of the MP-IQE paper that take a method apart (ablations, shares of the training data,
# lengths of prompts) instead of naming rivals.
STUDIES = frozenset({"4", "5", "6"})

_METRICS = ("SRCC", "PLCC")


@dataclass(frozen=True, slots=True)
class Published:
    """One cell of a table. What a paper does not tell is empty; a learned method without
    ``trained_on`` learned from the training part of the same set.

    ``setting`` holds a study's variant, or of the AGIQA sets what is predicted and how the set was
    split: "quality; by prompt", "alignment; zero-shot", "quality; split unverified".
    """

    source: str
    table: str
    method: str
    setting: str
    trained_on: str
    tested_on: str
    metric: str
    value: float

    @property
    def target(self) -> str:
        """What is predicted: "quality" or "alignment"."""
        return "alignment" if self.setting.startswith("alignment") else "quality"


@dataclass(frozen=True, slots=True)
class Measured:
    """A row of one's own for ``comparison``: figures by metric, as {"SRCC": 0.871}."""

    method: str
    figures: Mapping[str, float]
    setting: str = ""
    trained_on: str = ""


class Filters(TypedDict, total=False):
    """What a cell must match: None matches any text, "" a cell that tells nothing."""

    method: str | None
    table: str | None
    setting: str | None
    trained_on: str | None
    tested_on: str | None
    metric: str | None


@cache
def rows() -> tuple[Published, ...]:
    """All cells, in the order of the papers."""
    text = files("training.research").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        Published(
            **{key: cell for key, cell in row.items() if key != "value"}, value=float(row["value"])
        )
        for row in csv.DictReader(text.splitlines())
    )


def paper_name(data_set: str) -> str:
    """The papers' name of a data set."""
    return PAPER_NAMES.get(data_set, data_set)


def published(**filters: Unpack[Filters]) -> list[Published]:
    """The cells that match."""
    wanted: dict[str, Any] = {key: value for key, value in filters.items() if value is not None}
    for key in wanted.keys() & {"trained_on", "tested_on"}:
        wanted[key] = paper_name(wanted[key])
    return [row for row in rows() if all(getattr(row, key) == wanted[key] for key in wanted)]


def value(**filters: Unpack[Filters]) -> float | None:
    """The one figure that matches; None where there is none.

    Raises:
        ValueError: figures that differ.
    """
    found = {row.value for row in published(**filters)}
    if len(found) > 1:
        raise ValueError(f"{len(found)} different published figures are so; ask for one")
    return found.pop() if found else None


def rivals(tested_on: str, target: str = "quality") -> list[Published]:
    """What was published on a data set, but for tables that take a method apart."""
    return [
        row
        for row in published(tested_on=tested_on)
        if row.target == target and row.table not in STUDIES
    ]


def comparison(
    tested_on: str, measured: Sequence[Measured] = (), *, target: str = "quality"
) -> Table:
    """Measured rows, then all published ones of that data set, the best SRCC first; each published
    row with its setting and its source. A figure that the papers repeat stands once.

    Args:
        tested_on: the data set, by our name or the papers'.
        measured: rows of one's own.
        target: "quality" or "alignment".
    """
    cells = rivals(tested_on, target)
    places = decimals(cell.value for cell in cells)
    by_row: dict[Published, dict[str, float]] = {}
    for cell in cells:
        by_row.setdefault(replace(cell, metric="", value=0.0), {})[cell.metric] = cell.value
    found: dict[tuple[str, ...], list[Published]] = {}
    for row, figures in by_row.items():
        shown = (row.method, _setting(row), *_figures(figures, places))
        found.setdefault(shown, []).append(row)
    theirs = [(*shown, _source(sources)) for shown, sources in found.items()]
    own = [(m.method, _setting(m), *_figures(m.figures, places), "measured here") for m in measured]
    ranked = sorted(theirs, key=lambda row: (-float(row[2]) if row[2] != "-" else 1.0, row[0]))
    header = ("method", "setting", *_METRICS, "source")
    caption = f"{target.capitalize()} on {tested_on}, and what was published"
    return Table(header, (*own, *ranked), caption)


def decimals(values: Iterable[float]) -> int:
    """How many decimals published figures have: 3, or 4 where one of them does."""
    return 4 if any(round(v, 3) != v for v in values) else 3


def _figures(figures: Mapping[str, float], places: int) -> tuple[str, ...]:
    values = (figures.get(metric, math.nan) for metric in _METRICS)
    return tuple("-" if math.isnan(value) else f"{value:.{places}f}" for value in values)


def _setting(row: Published | Measured) -> str:
    trained_on = f"trained on {row.trained_on}" if row.trained_on else ""
    return ", ".join(filter(None, (row.setting, trained_on)))


def _source(cells: Sequence[Published]) -> str:
    """The papers and tables, as "MP-IQE paper, tables 1, 2"."""
    tables: dict[str, list[str]] = {}
    for cell in cells:
        tables.setdefault(cell.source, []).append(cell.table)
    return "; ".join(
        _cited(source, [n for n in numbers if n]) for source, numbers in tables.items()
    )


def _cited(source: str, numbers: Sequence[str]) -> str:
    if not numbers:
        return f"{source} source"
    return f"{source}, table{'s' * (len(numbers) > 1)} {' and '.join(numbers)}"
