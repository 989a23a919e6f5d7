"""Variables of MATLAB files (.mat), as some data sets carry their annotations."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from training.errors import DataError

# What reading a damaged file ends in, besides MatReadError.
_DAMAGED = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
    zlib.error,
)


def numbers(path: Path, name: str) -> NDArray[np.float64]:
    """A numeric variable, flat: [n].

    Raises:
        DataError: no such file or variable, or it can't be read.
    """
    try:
        return np.asarray(_load(path)[name], dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} has no numbers under {name}: {error}") from error


def words(path: Path, name: str) -> list[str]:
    """A cell array of character arrays, flat.

    Raises:
        DataError: no such file or variable, or it can't be read.
    """
    try:
        return [str(np.ravel(cell).item()) for cell in np.ravel(_load(path)[name])]
    except ValueError as error:
        raise DataError(f"{path} has no names under {name}: {error}") from error


class _Variables(dict[str, Any]):
    """Those of one file."""

    def __init__(self, path: Path, variables: Mapping[str, Any]) -> None:
        super().__init__(variables)
        self.path = path

    def __missing__(self, name: str) -> Any:
        raise DataError(f"{self.path} has no variable {name}: it is another file than the set's")


def _load(path: Path) -> _Variables:
    if not path.is_file():
        raise DataError(f"{path.parent} has no {path.name}")
    try:
        return _Variables(path, loadmat(path))
    except (MatReadError, *_DAMAGED) as error:
        raise DataError(
            f"{path} can't be read as a MATLAB file ({error}): take it from the release again"
        ) from error
