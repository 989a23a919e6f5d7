"""CSIQ (Larson and Chandler, JEI 2010): photographs with six distortions in ``dst_imgs/{type}``,
and ``csiq_label.txt``.

That list is not of the release itself, which has a spreadsheet, but of hyperIQA, and in general
use: 866 lines ``{reference}.{TYPE}.{level}.png {DMOS}``. 30 references lie in ``src_imgs``. Scores
lie in 0..1, low = better.
"""

from pathlib import Path

from training.data.dataset import DataSet
from training.data.paths import locate
from training.data.readers.labels import distortion_named
from training.data.readers.rows import Row, read_csv, read_rows
from training.data.samples import Sample
from training.errors import DataError

_TABLE = "csiq_label.txt"
# LIQE's names of the distortions, by their folder; names of images tell them in mixed case.
_DISTORTIONS = {
    "awgn": "white noise",
    "blur": "gaussian blur",
    "contrast": "contrast",
    "fnoise": "fnoise",
    "jpeg": "jpeg compression",
    "jpeg2000": "jpeg2000 compression",
}


def annotations(folder: Path) -> list[Sample]:
    """Every line of ``csiq_label.txt``; images lie in a folder per distortion, or all in one.

    Raises:
        DataError: no table, a line that can't be read, or another number of images.
    """
    flat = [folder / name for name in ("dst_imgs", "dst_imgs_all")]
    places = {name: locate(folder / "dst_imgs" / name, *flat) for name in _DISTORTIONS}

    def parse(row: Row) -> Sample:
        name = row.text("image")
        reference, folder_name = row.read("image", _reference_and_folder)
        distortion = distortion_named(_DISTORTIONS[folder_name])
        path = places[folder_name](name)
        return Sample(SET.name, path, reference, row.read("dmos", SET.unit), distortion=distortion)

    table = folder / _TABLE
    if not table.is_file():
        raise DataError(f"{folder} has no {_TABLE}: take it from SSL92/hyperIQA on GitHub")
    lines = read_csv(table, sep=r"\s+", header=None, names=["image", "dmos"])
    return SET.whole(read_rows(table, lines, parse))


def _reference_and_folder(name: str) -> tuple[str, str]:
    """The reference that an image's name tells, and the folder of its distortion."""
    reference, kind, _, _ = name.rsplit(".", 3)
    if kind.casefold() not in _DISTORTIONS:
        raise ValueError(f"unknown distortion {kind!r}")
    return reference, kind.casefold()


SET = DataSet(
    name="CSIQ",
    annotations=annotations,
    scale=(0, 1),
    marks=(_TABLE,),
    split_by="reference image",
    images=866,
    about="CSIQ (terms: ask its authors): photographs with six distortions and their difference "
    "opinion scores.",
    lower_better=True,
)
