"""AGIQA-3K (Li et al., IEEE TCSVT 2023), read as distributed: images, and ``data.csv`` with two
opinion scores.

2982 images of 300 prompts by 6 generators; the name ``{generator}_{mode}_{000-299}.jpg`` tells the
generator and the mode. Both scores lie in 0..5, high = better. 18 of the 3000 images are missing
from the set as published.
"""

from pathlib import Path

from training.samples import Sample, read_table

NAME = "AGIQA-3K"
SCORE_LOW, SCORE_HIGH = 0.0, 5.0
TABLE = "data.csv"
_COLUMNS = {"name", "prompt", "mos_quality", "mos_align"}


def read(folder: Path) -> list[Sample]:
    """All rated images whose file is there, in the order of ``data.csv``.

    Raises:
        DataError: as ``read_table``.
    """

    def parse(row: dict[str, str]) -> Sample:
        generator, mode, _ = row["name"].rsplit("_", 2)
        mos, aligned = (
            (float(row[c]) - SCORE_LOW) / (SCORE_HIGH - SCORE_LOW)
            for c in ("mos_quality", "mos_align")
        )
        flat, nested = folder / row["name"], folder / "img" / row["name"]
        path = flat if flat.is_file() else nested
        prompt = row["prompt"].strip()
        return Sample(NAME, path, prompt, mos, aligned, prompt, generator, mode)

    return read_table(folder, TABLE, _COLUMNS, parse)
