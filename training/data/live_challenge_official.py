"""LIVE Challenge in the layout of its release: ``Images``, and MATLAB files in ``Data``.

``AllImages_release.mat`` has the names (cell {1169, 1}), ``AllMOS_release.mat`` the scores
[1, 1169]. The first 7 are the images that observers were trained with, not of the set.
"""

from pathlib import Path

from training.data import matlab
from training.data.places import locate
from training.errors import DataError

FOLDER = "Data"
MARK = "Data/AllMOS_release.mat"

_LISTED, _FOR_TRAINING = 1169, 7


def opinions(folder: Path) -> list[tuple[Path, float]]:
    """Path and MOS (0..100, high = better) of the 1162 images.

    Raises:
        DataError: a file is missing, can't be read, or lists another number of images.
    """
    names = matlab.words(folder / FOLDER / "AllImages_release.mat", "AllImages_release")
    scores = matlab.numbers(folder / MARK, "AllMOS_release").tolist()
    if (len(names), len(scores)) != (_LISTED, _LISTED):
        raise DataError(
            f"{folder / FOLDER} lists {len(names)} images and {len(scores)} scores, not {_LISTED} "
            "each: take its files from the release again"
        )
    place = locate(folder / "Images")
    listed = [(place(name), score) for name, score in zip(names, scores, strict=True)]
    return listed[_FOR_TRAINING:]
