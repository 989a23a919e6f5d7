"""CSIQ (Larson and Chandler, JEI 2010): photographs with six distortions in ``dst_imgs/{type}``,
and ``csiq_label.txt``.

That list is not of the release itself, which has a spreadsheet, but of hyperIQA, and in general
use: 866 lines ``{reference}.{TYPE}.{level}.png {DMOS}``. 30 references lie in ``src_imgs``. Scores
lie in 0..1, low = better.
"""

from pathlib import Path

from model.config import ScoreRange
from training.data.dataset import DataSet
from training.data.labels import distortion_named
from training.data.places import locate
from training.data.rows import parse_rows
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
    places = {kind: locate(folder / "dst_imgs" / kind, *flat) for kind in _DISTORTIONS}

    def parse(line: str) -> Sample:
        name, dmos = line.split()
        reference, kind, _, _ = name.rsplit(".", 3)
        distortion = distortion_named(_DISTORTIONS[kind.casefold()])
        path = places[kind.casefold()](name)
        return Sample(SET.name, path, reference, SET.unit(float(dmos)), distortion=distortion)

    return SET.whole(parse_rows(_TABLE, _lines(folder / _TABLE), parse))


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path.parent} has no {path.name}: take it from SSL92/hyperIQA on GitHub")
    try:
        return path.read_text(encoding="utf-8").strip().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text: {error}") from error


SET = DataSet(
    name="CSIQ",
    annotations=annotations,
    score_range=ScoreRange(low=0, high=1),
    marks=(_TABLE,),
    split_by="reference image",
    images=866,
    about="CSIQ (terms: ask its authors): photographs with six distortions and their difference "
    "opinion scores.",
    lower_better=True,
)
