"""KADID-10k (Lin et al., QoMEX 2019), read as distributed: ``images`` and ``dmos.csv``.

10125 images ``I{reference}_{distortion}_{level}.png``: 81 references, 25 distortions, 5 levels. The
column is called dmos, but its scores lie in 1..5, high = better.
"""

from pathlib import Path

from training.data.dataset import DataSet
from training.data.paths import locate
from training.data.readers.labels import distortion_named
from training.data.readers.rows import Row, read_csv, read_rows
from training.data.samples import Sample

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
        DataError: as ``read_csv``, a row that can't be read, or another number of images.
    """
    place = locate(folder / "images", folder)

    def parse(row: Row) -> Sample:
        path, reference = place(row.text("dist_img")), row.text("ref_img")
        distortion, mos = row.read("dist_img", _distortion), row.read("dmos", SET.unit)
        return Sample(SET.name, path, reference, mos, distortion=distortion)

    table = folder / _TABLE
    return SET.whole(read_rows(table, read_csv(table, _COLUMNS), parse))


def _distortion(name: str) -> str:
    _, number, _ = name.split("_")
    return distortion_named(_BY_NUMBER[number])


SET = DataSet(
    name="KADID-10k",
    annotations=annotations,
    scale=(1, 5),
    marks=(_TABLE,),
    split_by="reference image",
    images=10125,
    about="KADID-10k (terms: ask its authors): photographs with 25 distortions and opinion scores "
    "of quality.",
)
