"""Variables of MATLAB files (.mat), as some data sets carry their annotations."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from training.data.readers.rows import reading
from training.errors import DataError


def variable(path: Path, name: str) -> list[Any]:
    """The numbers of an array, or the texts of a cell array, flat.

    Raises:
        DataError: no such file or variable, or it can't be read.
    """
    with reading(path, "a MATLAB file"):
        variables = loadmat(path, squeeze_me=True)
    if name not in variables:
        raise DataError(f"{path} has no variable {name}: it is another file than the set's")
    values: list[Any] = np.ravel(variables[name]).tolist()
    return values
