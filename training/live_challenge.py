"""LIVE In the Wild Image Quality Challenge (Ghadiyaram and Bovik, IEEE TIP 2016): photographs with
opinion scores, and LIQE's labels of scenes and distortions.

Read as a folder with ``labels.csv`` (image,mos,distortion,scene; several scenes are joined by ";").
Scores lie in 0..100, high = better. Labels become the names of MP-IQE (``model.vocabulary``).
"""

from pathlib import Path

from model.vocabulary import DISTORTIONS, LIQE_DISTORTIONS, LIQE_SCENES, SCENES
from training.samples import Sample, read_table

NAME = "LIVE-Challenge"
SCORE_LOW, SCORE_HIGH = 0.0, 100.0
TABLE = "labels.csv"
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


def read(folder: Path) -> list[Sample]:
    """All rated photographs whose file is there, in the order of ``labels.csv``.

    Raises:
        DataError: as ``read_table``; a label that is unknown among them.
    """

    def parse(row: dict[str, str]) -> Sample:
        mos = (float(row["mos"]) - SCORE_LOW) / (SCORE_HIGH - SCORE_LOW)
        scenes = tuple(_SCENES[scene] for scene in row["scene"].split(";") if scene)
        distortion = _DISTORTIONS[row["distortion"]] if row["distortion"] else ""
        path = folder / row["image"]
        return Sample(NAME, path, path.name, mos, scenes=scenes, distortion=distortion)

    return read_table(folder, TABLE, _COLUMNS, parse)
