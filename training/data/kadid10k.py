"""KADID-10k (Lin et al., QoMEX 2019), read as distributed: ``images`` and ``dmos.csv``.

10125 images ``I{reference}_{distortion}_{level}.png``: 81 references, 25 distortions, 5 levels. The
column is called dmos, but its scores lie in 1..5, high = better.
"""

from pathlib import Path

from model.config import ScoreRange
from training.data.dataset import DataSet
from training.data.labels import distortion_named
from training.data.places import locate
from training.data.samples import Sample, read_table

_TABLE = "dmos.csv"
_COLUMNS = {"dist_img", "ref_img", "dmos"}
# LIQE's names of the 25 distortions in the order of their numbers.
_DISTORTIONS = (
    "gaussian blur",
    "lens",
    "motion",
    "diffusion",
    "shifting",
    "color quantization",
    "oversaturation",
    "desaturation",
    "jpeg2000 compression",
    "jpeg compression",
    "white noise",
    "white with color",
    "impulse",
    "multiplicative",
    "white noise with denoise",
    "brighten",
    "darken",
    "shifting the mean",
    "jitter",
    "noneccentricity patch",
    "pixelate",
    "quantization",
    "color blocking",
    "sharpness",
    "contrast",
)
_BY_NUMBER = {f"{number:02}": name for number, name in enumerate(_DISTORTIONS, start=1)}


def annotations(folder: Path) -> list[Sample]:
    """Every row of ``dmos.csv``; images lie under ``images`` or flat.

    Raises:
        DataError: as ``read_table``, or another number of images.
    """
    place = locate(folder / "images", folder)

    def parse(row: dict[str, str]) -> Sample:
        name = row["dist_img"]
        _, number, _ = name.split("_")
        distortion = distortion_named(_BY_NUMBER[number])
        mos = SET.unit(float(row["dmos"]))
        return Sample(SET.name, place(name), row["ref_img"], mos, distortion=distortion)

    return SET.whole(read_table(folder, _TABLE, _COLUMNS, parse))


SET = DataSet(
    name="KADID-10k",
    annotations=annotations,
    score_range=ScoreRange(low=1, high=5),
    marks=(_TABLE,),
    split_by="reference image",
    images=10125,
    about="KADID-10k (terms: ask its authors): photographs with 25 distortions and opinion scores "
    "of quality.",
)
