"""LIVE Image Quality Assessment Database, release 2 (Sheikh et al., IEEE TIP 2006), read as
distributed: images in a folder per distortion, and two MATLAB files.

982 images in the order of the folders ``jp2k`` (227), ``jpeg`` (233), ``wn`` (174), ``gblur`` (174)
and ``fastfading`` (174), each ``img{n}.bmp`` from 1. In that order ``dmos_realigned.mat`` has the
scores (``dmos_new`` [1, 982]) and which images are undistorted (``orgs`` [1, 982]), and
``refnames_all.mat`` the reference of each (``refnames_all`` {1, 982}). Without the undistorted ones
779 images of 29 references remain.

Scores are realigned DMOS, low = better. Those of the 779 lie up to 112 points apart, from about 0
to about 112: standardised, they leave 0..100 on both sides.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from training.data.dataset import DataSet
from training.data.paths import locate
from training.data.readers.labels import distortion_named
from training.data.readers.matlab import variable
from training.data.readers.rows import Row, read_rows
from training.data.samples import Sample
from training.errors import DataError

_SCORES, _REFERENCES = "dmos_realigned.mat", "refnames_all.mat"
# The images of each folder, and LIQE's name of its distortion.
_FOLDERS = {
    "jp2k": (227, "jpeg2000 compression"),
    "jpeg": (233, "jpeg compression"),
    "wn": (174, "white noise"),
    "gblur": (174, "gaussian blur"),
    "fastfading": (174, "fastfading"),
}
_IMAGES = sum(count for count, _ in _FOLDERS.values())


def annotations(folder: Path) -> list[Sample]:
    """The 779 distorted images.

    Raises:
        DataError: a file is missing, can't be read, or lists another number of images.
    """
    listed = {
        "dmos_new": variable(folder / _SCORES, "dmos_new"),
        "orgs": variable(folder / _SCORES, "orgs"),
        "refnames_all": variable(folder / _REFERENCES, "refnames_all"),
    }
    counts = [len(values) for values in listed.values()]
    if set(counts) != {_IMAGES}:
        raise DataError(
            f"{folder} lists {', '.join(map(str, counts))} scores, marks and references, not "
            f"{_IMAGES} each: take {_SCORES} and {_REFERENCES} from release 2"
        )

    frame = pd.DataFrame(listed)
    frame[["path", "distortion"]] = list(_files(folder))
    frame.index += 1

    def parse(row: Row) -> Sample:
        path, distortion = row.read("path", Path), row.text("distortion")
        mos, reference = row.read("dmos_new", SET.unit), row.text("refnames_all")
        return Sample(SET.name, path, reference, mos, distortion=distortion)

    return SET.whole(read_rows(folder / _SCORES, frame[frame["orgs"] != 1], parse))


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Path and distortion of all 982 in the order of the scores."""
    for name, (count, distortion) in _FOLDERS.items():
        place = locate(folder / name)
        for number in range(1, count + 1):
            yield place(f"img{number}.bmp"), distortion_named(distortion)


SET = DataSet(
    name="LIVE",
    annotations=annotations,
    # Wide enough to clip no score, so that no two fall together.
    scale=(-5, 115),
    marks=(_SCORES, _REFERENCES),
    split_by="reference image",
    images=779,
    about="LIVE Image Quality Assessment Database, release 2 (free to use with its copyright "
    "notice): photographs with five distortions and their difference opinion scores.",
    lower_better=True,
)
