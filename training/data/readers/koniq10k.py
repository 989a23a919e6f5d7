"""KonIQ-10k (Hosu et al., IEEE TIP 2020), read as distributed: ``1024x768`` (or ``512x384``), and
either of its two tables.

10073 photographs. ``koniq10k_distributions_sets.csv`` has MOS of 0..100 and the authors' split
(``set``: training, validation, test). ``koniq10k_scores_and_distributions.csv`` has MOS of 1..5,
and the scores of the other table as ``MOS_zscore``, which are read where they are there.
High = better.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from training.data.dataset import DataSet
from training.data.paths import locate
from training.data.readers.labels import PART_NAMES
from training.data.readers.rows import Row, read_csv, read_rows
from training.data.samples import Sample
from training.errors import DataError

_SETS, _SCORES = "koniq10k_distributions_sets.csv", "koniq10k_scores_and_distributions.csv"


def annotations(folder: Path) -> list[Sample]:
    """Every row of the table with the authors' split, else of the other one.

    Raises:
        DataError: as ``read_csv``, a row that can't be read, scores of another scale, or another
            number of images.
    """
    place = locate(folder / "1024x768", folder / "512x384", folder)
    split = (folder / _SETS).is_file()
    table = folder / (_SETS if split else _SCORES)
    frame = read_csv(table, {"image_name", "MOS"} | ({"set"} if split else set()))
    standardised = "MOS_zscore" in frame

    def parse(row: Row) -> Sample:
        path = place(row.text("image_name"))
        column = "MOS_zscore" if standardised and row.text("MOS_zscore") else "MOS"
        part = row.read("set", PART_NAMES.__getitem__) if "set" in frame else ""
        return Sample(SET.name, path, path.name, row.read(column, _score), part=part)

    samples = SET.whole(read_rows(table, frame, parse))
    of_hundred = _to_hundred(table, [sample.mos for sample in samples])
    return [replace(sample, mos=SET.unit(of_hundred(sample.mos))) for sample in samples]


def _score(cell: str) -> float:
    score = float(cell)
    if not math.isfinite(score):
        raise ValueError(f"{cell} is no score")
    return score


def _to_hundred(table: Path, scores: list[float]) -> Callable[[float], float]:
    """What brings the scores to 0..100; their range tells which of the two scales they are on."""
    low, high = min(scores), max(scores)
    if low >= 1 and high <= 5:
        return lambda score: 25 * (score - 1)
    if low >= 0 and high <= 100:
        return lambda score: score
    raise DataError(f"{table} has MOS from {low:g} to {high:g}, neither of 0..100 nor of 1..5")


SET = DataSet(
    name="KonIQ-10k",
    annotations=annotations,
    scale=(0, 100),
    marks=(f"{_SETS}|{_SCORES}",),
    split_by="image",
    images=10073,
    about="KonIQ-10k (terms: ask its authors): photographs from the web with "
    "opinion scores of quality.",
)
