"""LIVE In the Wild Image Quality Challenge (Ghadiyaram and Bovik, IEEE TIP 2016): photographs with
opinion scores, and LIQE's labels of scenes and distortions.

Read as a folder with ``labels.csv`` (image,mos,distortion,scene; several scenes are joined by ";"),
or, where that is not there, in the layout of the release, which has no labels. Scores lie in
0..100, high = better. Labels become the names of MP-IQE (``training.data.readers.labels``).

The release has ``Images``, and MATLAB files in ``Data``: ``AllImages_release.mat`` with the names
(cell {1169, 1}), ``AllMOS_release.mat`` with the scores [1, 1169]. The first 7 are the images that
observers were trained with, not of the set.
"""

from pathlib import Path

import pandas as pd

from training.data.dataset import DataSet
from training.data.paths import locate
from training.data.readers.labels import distortion_listed, scenes_listed
from training.data.readers.matlab import variable
from training.data.readers.rows import Row, read_csv, read_rows
from training.data.samples import Sample
from training.errors import DataError

_TABLE = "labels.csv"
_COLUMNS = {"image", "mos", "distortion", "scene"}
_NAMES, _SCORES = "Data/AllImages_release.mat", "Data/AllMOS_release.mat"
_LISTED, _FOR_TRAINING = 1169, 7


def annotations(folder: Path) -> list[Sample]:
    """Every row of ``labels.csv``, or all images of the release.

    Raises:
        DataError: as ``read_csv``; a row that can't be read, an unknown label among them. Of the
            release: a file is missing, can't be read, or lists another number of images.
    """
    if (folder / "Data").is_dir() and not (folder / _TABLE).is_file():
        return _released(folder)
    return _labelled(folder)


def _labelled(folder: Path) -> list[Sample]:
    def parse(row: Row) -> Sample:
        path, mos = folder / row.text("image"), row.read("mos", SET.unit)
        scenes = row.read("scene", scenes_listed)
        distortion = row.read("distortion", distortion_listed)
        return Sample(SET.name, path, path.name, mos, scenes=scenes, distortion=distortion)

    table = folder / _TABLE
    return read_rows(table, read_csv(table, _COLUMNS), parse)


def _released(folder: Path) -> list[Sample]:
    names = variable(folder / _NAMES, "AllImages_release")
    scores = variable(folder / _SCORES, "AllMOS_release")
    if (len(names), len(scores)) != (_LISTED, _LISTED):
        raise DataError(
            f"{folder / 'Data'} lists {len(names)} images and {len(scores)} scores, not {_LISTED} "
            "each: take its files from the release again"
        )
    place = locate(folder / "Images")
    frame = pd.DataFrame({"name": names, "mos": scores}, index=range(1, _LISTED + 1))

    def parse(row: Row) -> Sample:
        path = place(row.text("name"))
        return Sample(SET.name, path, path.name, row.read("mos", SET.unit))

    return SET.whole(read_rows(folder / _SCORES, frame[_FOR_TRAINING:], parse))


SET = DataSet(
    name="LIVE-Challenge",
    annotations=annotations,
    scale=(0, 100),
    marks=(f"{_TABLE}|{_SCORES}",),
    split_by="image",
    images=1162,
    about="LIVE In the Wild Image Quality Challenge (free to use with its copyright notice, which "
    "stands in NOTICE): photographs from mobile devices with opinion scores of quality; labels "
    "of scene and distortion as LIQE's authors gave them.",
)
