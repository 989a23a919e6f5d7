"""The data sets that can be read, by name."""

from collections.abc import Mapping
from pathlib import Path

from training.data.dataset import DataSet
from training.data.readers import (
    agiqa1k,
    agiqa3k,
    aigciqa2023,
    bid,
    csiq,
    kadid10k,
    koniq10k,
    live,
    live_challenge,
)
from training.data.samples import Sample, present
from training.errors import DataError

DATA_SETS: Mapping[str, DataSet] = {
    data.name: data
    for data in (
        agiqa1k.SET,
        agiqa3k.SET,
        aigciqa2023.SET,
        bid.SET,
        csiq.SET,
        kadid10k.SET,
        koniq10k.SET,
        live.SET,
        live_challenge.SET,
    )
}


def recognise(folder: Path) -> DataSet:
    """Which known set a folder is.

    Raises:
        DataError: none of them.
    """
    for data in DATA_SETS.values():
        if data.is_in(folder):
            return data
    known = ", ".join(f"{' and '.join(d.marks)} ({name})" for name, d in DATA_SETS.items())
    raise DataError(f"{folder} is no data set that is known here; looked for {known}")


def read(folder: Path) -> list[Sample]:
    """All rated images that are there, of whichever known set the folder is.

    Raises:
        DataError: it is none of them, is not as distributed, or holds no image.
    """
    return present(recognise(folder).annotations(folder), folder)


def read_as(name: str, folder: Path) -> list[Sample]:
    """``read`` of the set ``name``, whatever else the folder looks like."""
    return present(DATA_SETS[name].annotations(folder), folder)
