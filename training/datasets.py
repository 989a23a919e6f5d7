"""The data sets that can be read, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model.config import ScoreRange
from training import agiqa3k, live_challenge
from training.errors import DataError
from training.samples import Sample


@dataclass(frozen=True)
class DataSet:
    """How to read a set, the scale of its opinion scores, the table that it is known by, what a
    split must keep together, and what a card says about it.
    """

    read: Callable[[Path], list[Sample]]
    score_range: ScoreRange
    table: str
    split_by: str
    about: str


DATA_SETS = {
    agiqa3k.NAME: DataSet(
        agiqa3k.read,
        ScoreRange(low=agiqa3k.SCORE_LOW, high=agiqa3k.SCORE_HIGH),
        agiqa3k.TABLE,
        "prompt",
        "AGIQA-3K (MIT licence): generated images with opinion scores of quality and alignment, "
        "and their prompts.",
    ),
    live_challenge.NAME: DataSet(
        live_challenge.read,
        ScoreRange(low=live_challenge.SCORE_LOW, high=live_challenge.SCORE_HIGH),
        live_challenge.TABLE,
        "image",
        "LIVE In the Wild Image Quality Challenge (free to use with its copyright notice, which "
        "stands in NOTICE): photographs from mobile devices with opinion scores of quality; labels "
        "of scene and distortion as LIQE's authors gave them.",
    ),
}


def read(folder: Path) -> list[Sample]:
    """Reads a folder of whichever known set it is.

    Raises:
        DataError: it is none of them.
    """
    for data in DATA_SETS.values():
        if (folder / data.table).is_file():
            return data.read(folder)
    tables = ", ".join(f"{data.table} ({name})" for name, data in DATA_SETS.items())
    raise DataError(f"{folder} is no data set that is known here; looked for {tables}")
