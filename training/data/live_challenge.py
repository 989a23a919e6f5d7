"""LIVE In the Wild Image Quality Challenge (Ghadiyaram and Bovik, IEEE TIP 2016): photographs with
opinion scores, and LIQE's labels of scenes and distortions.

Read as a folder with ``labels.csv`` (image,mos,distortion,scene; several scenes are joined by ";").
Scores lie in 0..100, high = better. Labels become the names of MP-IQE (``model.vocabulary``).
"""

from pathlib import Path

from model.config import ScoreRange
from model.vocabulary import DISTORTIONS, LIQE_DISTORTIONS, LIQE_SCENES, SCENES
from training.data.dataset import DataSet
from training.data.samples import Sample, read_table

_TABLE = "labels.csv"
_COLUMNS = {"image", "mos", "distortion", "scene"}
_SCENES = {name: name for name in SCENES} | LIQE_SCENES
_DISTORTIONS = (
    {name: name for name in DISTORTIONS}
    | LIQE_DISTORTIONS
    | {
        "realistic blur": "blur",
        "realistic noise": "noise",
        "realistic contrast change": "contrast",
        "other realistic": "others",
    }
)


def annotations(folder: Path) -> list[Sample]:
    """Every row of ``labels.csv``.

    Raises:
        DataError: as ``read_table``; a label that is unknown among them.
    """

    def parse(row: dict[str, str]) -> Sample:
        mos = SET.unit(float(row["mos"]))
        scenes = tuple(_SCENES[scene] for scene in row["scene"].split(";") if scene)
        distortion = _DISTORTIONS[row["distortion"]] if row["distortion"] else ""
        path = folder / row["image"]
        return Sample(SET.name, path, path.name, mos, scenes=scenes, distortion=distortion)

    return read_table(folder, _TABLE, _COLUMNS, parse)


SET = DataSet(
    name="LIVE-Challenge",
    annotations=annotations,
    score_range=ScoreRange(low=0, high=100),
    marks=(_TABLE,),
    split_by="image",
    images=1162,
    about="LIVE In the Wild Image Quality Challenge (free to use with its copyright notice, which "
    "stands in NOTICE): photographs from mobile devices with opinion scores of quality; labels "
    "of scene and distortion as LIQE's authors gave them.",
)
