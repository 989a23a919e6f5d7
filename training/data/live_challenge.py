"""LIVE In the Wild Image Quality Challenge (Ghadiyaram and Bovik, IEEE TIP 2016): photographs with
opinion scores, and LIQE's labels of scenes and distortions.

Read as a folder with ``labels.csv`` (image,mos,distortion,scene; several scenes are joined by ";"),
or, where that is not there, in the layout of the release, which has no labels. Scores lie in
0..100, high = better. Labels become the names of MP-IQE (``training.data.labels``).
"""

from pathlib import Path

from model.config import ScoreRange
from training.data import live_challenge_official
from training.data.dataset import DataSet
from training.data.labels import distortion_named, scene_named
from training.data.rows import parse_rows
from training.data.samples import Sample, read_table

_TABLE = "labels.csv"
_COLUMNS = {"image", "mos", "distortion", "scene"}


def annotations(folder: Path) -> list[Sample]:
    """Every row of ``labels.csv``, or all images of the release.

    Raises:
        DataError: as ``read_table``; a label that is unknown among them. Of the release: as
            ``live_challenge_official.opinions``.
    """
    released = folder / live_challenge_official.FOLDER
    if released.is_dir() and not (folder / _TABLE).is_file():
        return _released(folder)
    return _labelled(folder)


def _labelled(folder: Path) -> list[Sample]:
    def parse(row: dict[str, str]) -> Sample:
        mos = SET.unit(float(row["mos"]))
        scenes = tuple(scene_named(scene) for scene in row["scene"].split(";") if scene)
        distortion = distortion_named(row["distortion"]) if row["distortion"] else ""
        path = folder / row["image"]
        return Sample(SET.name, path, path.name, mos, scenes=scenes, distortion=distortion)

    return read_table(folder, _TABLE, _COLUMNS, parse)


def _released(folder: Path) -> list[Sample]:
    def parse(row: tuple[Path, float]) -> Sample:
        path, score = row
        return Sample(SET.name, path, path.name, SET.unit(score))

    opinions = live_challenge_official.opinions(folder)
    return SET.whole(parse_rows(live_challenge_official.MARK, opinions, parse))


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
