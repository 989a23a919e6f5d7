"""LIVE Challenge in the layout of its release: ``Images``, and MATLAB files in ``Data``.

``AllImages_release.mat`` has the names (cell {1169, 1}), ``AllMOS_release.mat`` the scores
[1, 1169]. The first 7 are the images that observers were trained with, not of the set.
"""

from pathlib import Path

import pandas as pd

from training.data.paths import locate
from training.data.readers.matlab import variable
from training.errors import DataError

FOLDER = "Data"
MARK = "Data/AllMOS_release.mat"

_LISTED, _FOR_TRAINING = 1169, 7


def opinions(folder: Path) -> pd.DataFrame:
    """``path`` and ``mos`` (0..100, high = better) of the 1162 images, numbered as in the files.

    Raises:
        DataError: a file is missing, can't be read, or lists another number of images.
    """
    names = variable(folder / FOLDER / "AllImages_release.mat", "AllImages_release")
    scores = variable(folder / MARK, "AllMOS_release")
    if (len(names), len(scores)) != (_LISTED, _LISTED):
        raise DataError(
            f"{folder / FOLDER} lists {len(names)} images and {len(scores)} scores, not {_LISTED} "
            "each: take its files from the release again"
        )
    place = locate(folder / "Images")
    frame = pd.DataFrame({"path": [place(str(name)) for name in names], "mos": scores})
    frame.index += 1
    return frame[_FOR_TRAINING:]
