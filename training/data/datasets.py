"""The data sets that can be read, by name."""

from collections.abc import Mapping
from pathlib import Path

from training.data import table
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
from training.data.samples import Sample
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


def which(
    folder: Path, declared: tuple[float, float] | None, lower_better: bool, file: str | None = None
) -> DataSet:
    """The known set that a folder is, or its table of images with the declared scale; a declared
    scale or a named ``file`` always asks for the table.

    Raises:
        DataError: neither, or a table whose scale nobody declared.
    """
    if declared:
        name = folder.resolve().name
        return table.table_set(name, *declared, lower_better=lower_better, file=file)
    if file is None:
        try:
            return recognise(folder)
        except DataError as unknown:
            file = _table(folder, unknown)
    low, high = table.observed(folder, file)
    raise DataError(
        f"{file} lists images with scores from {low:g} to {high:g}, but not their scale: declare "
        "it with --range LOW HIGH, and --lower-better where low scores are the good ones"
    )


def _table(folder: Path, unknown: DataError) -> str:
    try:
        return table.find(folder)
    except DataError as error:
        raise DataError(f"{unknown}; and {error}") from error


def read(folder: Path) -> list[Sample]:
    """All rated images that are there, of whichever known set the folder is.

    Raises:
        DataError: it is none of them, is not as distributed, or holds no image.
    """
    return recognise(folder).read(folder)
