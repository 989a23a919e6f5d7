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

from model.config import ScoreRange
from training.data.dataset import DataSet
from training.data.places import locate
from training.data.samples import Sample, read_table
from training.errors import DataError

_SETS, _SCORES = "koniq10k_distributions_sets.csv", "koniq10k_scores_and_distributions.csv"
_PARTS = {"training": "train", "validation": "validation", "test": "test"}


def annotations(folder: Path) -> list[Sample]:
    """Every row of the table with the authors' split, else of the other one.

    Raises:
        DataError: as ``read_table``, scores of another scale, or another number of images.
    """
    place = locate(folder / "1024x768", folder / "512x384", folder)

    def parse(row: dict[str, str]) -> Sample:
        path = place(row["image_name"])
        mos = float(row.get("MOS_zscore") or row["MOS"])
        if not math.isfinite(mos):
            raise ValueError(f"{mos} is no score")
        return Sample(
            SET.name, path, path.name, mos, part=_PARTS[row["set"]] if "set" in row else ""
        )

    table, further = (_SETS, {"set"}) if (folder / _SETS).is_file() else (_SCORES, set())
    samples = SET.whole(read_table(folder, table, {"image_name", "MOS"} | further, parse))
    of_hundred = _to_hundred(folder / table, [sample.mos for sample in samples])
    return [replace(sample, mos=SET.unit(of_hundred(sample.mos))) for sample in samples]


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
    score_range=ScoreRange(low=0, high=100),
    marks=(f"{_SETS}|{_SCORES}",),
    split_by="image",
    images=10073,
    about="KonIQ-10k (terms: ask its authors): photographs from the web with "
    "opinion scores of quality.",
)
