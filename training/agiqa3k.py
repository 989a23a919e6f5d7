"""AGIQA-3K (Li et al., IEEE TCSVT 2023), read as distributed: images, and ``data.csv`` with two
opinion scores.

2982 images of 300 prompts by 6 generators; the name ``{generator}_{mode}_{000-299}.jpg`` tells the
generator and the mode. Both scores lie in 0..5, high = better. 18 of the 3000 images are missing
from the set as published.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError

NAME = "AGIQA-3K"
SCORE_LOW, SCORE_HIGH = 0.0, 5.0
_COLUMNS = {"name", "prompt", "mos_quality", "mos_align"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One rated image: ``mos`` and ``mos_align`` in [0, 1]; ``group`` is what a split must not tear
    apart.
    """

    path: Path
    prompt: str
    generator: str
    mode: str
    mos: float
    mos_align: float

    @property
    def group(self) -> str:
        """The prompt: two images of one prompt never lie on two sides of a split."""
        return self.prompt

    @property
    def source(self) -> str:
        """Generator and mode, as the no-image floor and the captions use them."""
        return f"{self.generator} {self.mode}"


def read(folder: Path) -> list[Sample]:
    """All rated images whose file is there, in the order of ``data.csv``.

    Raises:
        DataError: no ``data.csv`` or image, or a row that isn't as distributed (its line is named).
    """
    table = folder / "data.csv"
    if not table.is_file():
        raise DataError(f"{folder} has no data.csv: give the folder of AGIQA-3K")
    with table.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if lacking := _COLUMNS - set(rows.fieldnames or ()):
            raise DataError(f"{table} lacks the columns {', '.join(sorted(lacking))}")
        samples = [_sample(folder, row, line) for line, row in enumerate(rows, start=2)]
    found = [sample for sample in samples if sample.path.is_file()]
    if not found:
        raise DataError(f"{folder} holds none of the {len(samples)} images that data.csv lists")
    return found


def _sample(folder: Path, row: dict[str, str], line: int) -> Sample:
    try:
        generator, mode, _ = row["name"].rsplit("_", 2)
        scores = [
            (float(row[c]) - SCORE_LOW) / (SCORE_HIGH - SCORE_LOW)
            for c in ("mos_quality", "mos_align")
        ]
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"data.csv line {line} is not as distributed: {error}") from error
    flat, nested = folder / row["name"], folder / "img" / row["name"]
    path = flat if flat.is_file() else nested
    return Sample(path, row["prompt"].strip(), generator, mode, *scores)
