"""AGIQA-3K (Li et al., IEEE TCSVT 2023), read as distributed: images, and ``data.csv`` with two
opinion scores.

2982 images of 300 prompts by 6 generators; the name ``{generator}_{mode}_{000-299}.jpg`` tells the
generator and the mode. Both scores lie in 0..5, high = better. 18 of the 3000 images are missing
from the set as published.
"""

from pathlib import Path

from training.data.dataset import DataSet
from training.data.readers.rows import Row, read_csv, read_rows
from training.data.samples import Sample

_TABLE = "data.csv"
_COLUMNS = {"name", "prompt", "mos_quality", "mos_align"}


def annotations(folder: Path) -> list[Sample]:
    """Every row of ``data.csv``; images lie flat or under ``img``.

    Raises:
        DataError: as ``read_csv``, or a row that can't be read (it is named).
    """

    def parse(row: Row) -> Sample:
        generator, mode = row.read("name", _generator_and_mode)
        mos, aligned = (row.read(column, SET.unit) for column in ("mos_quality", "mos_align"))
        flat, nested = folder / row.text("name"), folder / "img" / row.text("name")
        path = flat if flat.is_file() else nested
        prompt = row.text("prompt")
        return Sample(SET.name, path, prompt, mos, aligned, prompt, generator, mode)

    table = folder / _TABLE
    return read_rows(table, read_csv(table, _COLUMNS), parse)


def _generator_and_mode(name: str) -> tuple[str, str]:
    generator, mode, _ = name.rsplit("_", 2)
    return generator, mode


SET = DataSet(
    name="AGIQA-3K",
    annotations=annotations,
    scale=(0, 5),
    marks=(_TABLE,),
    split_by="prompt",
    images=2982,
    about="AGIQA-3K (MIT licence): generated images with opinion scores of quality and alignment, "
    "and their prompts.",
)
