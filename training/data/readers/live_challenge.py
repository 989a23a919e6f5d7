"""LIVE In the Wild Image Quality Challenge (Ghadiyaram and Bovik, IEEE TIP 2016): photographs with
opinion scores, and LIQE's labels of scenes and distortions.

Read as a folder with ``labels.csv`` (image,mos,distortion,scene; several scenes are joined by ";"),
or, where that is not there, in the layout of the release, which has no labels. Scores lie in
0..100, high = better. Labels become the names of MP-IQE (``training.data.readers.labels``).
"""

from pathlib import Path

from model.config import ScoreRange
from training.data.dataset import DataSet
from training.data.readers import live_challenge_official
from training.data.readers.labels import distortion_listed, scenes_listed
from training.data.readers.rows import Row, read_csv, read_rows
from training.data.samples import Sample

_TABLE = "labels.csv"
_COLUMNS = {"image", "mos", "distortion", "scene"}


def annotations(folder: Path) -> list[Sample]:
    """Every row of ``labels.csv``, or all images of the release.

    Raises:
        DataError: as ``read_csv``; a row that can't be read, an unknown label among them. Of the
            release: as ``live_challenge_official.opinions``.
    """
    released = folder / live_challenge_official.FOLDER
    if released.is_dir() and not (folder / _TABLE).is_file():
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
    def parse(row: Row) -> Sample:
        path = row.read("path", Path)
        return Sample(SET.name, path, path.name, row.read("mos", SET.unit))

    opinions = live_challenge_official.opinions(folder)
    return SET.whole(read_rows(folder / live_challenge_official.MARK, opinions, parse))


SET = DataSet(
    name="LIVE-Challenge",
    annotations=annotations,
    score_range=ScoreRange(low=0, high=100),
    marks=(f"{_TABLE}|{live_challenge_official.MARK}",),
    split_by="image",
    images=1162,
    about="LIVE In the Wild Image Quality Challenge (free to use with its copyright notice, which "
    "stands in NOTICE): photographs from mobile devices with opinion scores of quality; labels "
    "of scene and distortion as LIQE's authors gave them.",
)
