"""AGIQA-3K (Li et al., IEEE TCSVT 2023), read as distributed: images, and ``data.csv`` with two
opinion scores.

2982 images of 300 prompts by 6 generators; the name ``{generator}_{mode}_{000-299}.jpg`` tells the
generator and the mode. Both scores lie in 0..5, high = better. 18 of the 3000 images are missing
from the set as published.
"""

from pathlib import Path

from model.config import ScoreRange
from training.data.dataset import DataSet
from training.data.samples import Sample, read_table

_TABLE = "data.csv"
_COLUMNS = {"name", "prompt", "mos_quality", "mos_align"}


def annotations(folder: Path) -> list[Sample]:
    """Every row of ``data.csv``; images lie flat or under ``img``.

    Raises:
        DataError: as ``read_table``.
    """

    def parse(row: dict[str, str]) -> Sample:
        generator, mode, _ = row["name"].rsplit("_", 2)
        mos, aligned = (SET.unit(float(row[c])) for c in ("mos_quality", "mos_align"))
        flat, nested = folder / row["name"], folder / "img" / row["name"]
        path = flat if flat.is_file() else nested
        prompt = row["prompt"].strip()
        return Sample(SET.name, path, prompt, mos, aligned, prompt, generator, mode)

    return read_table(folder, _TABLE, _COLUMNS, parse)


SET = DataSet(
    name="AGIQA-3K",
    annotations=annotations,
    score_range=ScoreRange(low=0, high=5),
    marks=(_TABLE,),
    split_by="prompt",
    images=2982,
    about="AGIQA-3K (MIT licence): generated images with opinion scores of quality and alignment, "
    "and their prompts.",
)
