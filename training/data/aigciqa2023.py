"""AIGCIQA2023 (Wang et al., CICAI 2023), read as distributed: images, three score files, and the
prompts.

2400 images: 4 of each of 100 prompts by each of 6 generators. ``allimg/{n}.png`` has
n = 400 * generator + 4 * prompt + k, and its scores stand in row n of ``mosz1.mat`` (quality),
``mosz2.mat`` (authenticity) and ``mosz3.mat`` (correspondence with the prompt), key ``MOSz``
[2400, 1]. The prompts are a sheet without a header, a row each, in its third column.

Scores are standardised ratings around 50 of 0..100, high = better. Quality becomes ``mos``,
correspondence ``mos_align``; authenticity is not used.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.config import ScoreRange
from training.data.dataset import DataSet
from training.data.matlab import numbers
from training.data.places import locate
from training.data.rows import parse_rows
from training.data.samples import Sample
from training.data.spreadsheet import read_rows
from training.errors import DataError

# In the order of the image numbers.
GENERATORS = ("Controlnet", "DALLE", "Glide", "Lafite", "stable-diffusion", "Unidiffuser")
PROMPTS, PER_PROMPT = 100, 4

_QUALITY, _CORRESPONDENCE = "mosz1.mat", "mosz3.mat"
_SHEET = "*[Pp]rompt*.xlsx"
_PROMPT_COLUMN = 2
# As the archive unpacks (DATA/MOS, Image/allimg), and with its parts moved up.
_SCORE_FOLDERS = ("DATA/MOS", "MOS", "DATA", "")
_IMAGE_FOLDERS = ("Image/allimg", "allimg", "")


def annotations(folder: Path) -> list[Sample]:
    """All 2400 images in the order of their numbers.

    Raises:
        DataError: a file is missing, can't be read, or has another number of rows.
    """
    quality, correspondence = (_scores(folder, name) for name in (_QUALITY, _CORRESPONDENCE))
    prompts = _prompts(folder)
    place = locate(*(folder / name for name in _IMAGE_FOLDERS))

    def parse(number: int) -> Sample:
        generator, within = divmod(number, PROMPTS * PER_PROMPT)
        prompt = prompts[within // PER_PROMPT]
        mos, aligned = (SET.unit(float(scores[number])) for scores in (quality, correspondence))
        path = place(f"{number}.png")
        return Sample(SET.name, path, prompt, mos, aligned, prompt, GENERATORS[generator])

    return parse_rows("MOSz", range(SET.images), parse, first=0)


def _scores(folder: Path, name: str) -> NDArray[np.float64]:
    """[2400], of 100."""
    paths = [folder / place / name for place in _SCORE_FOLDERS]
    scores = numbers(next((path for path in paths if path.is_file()), paths[0]), "MOSz")
    if len(scores) != SET.images:
        raise DataError(f"{name} has {len(scores)} scores instead of {SET.images}")
    return scores


def _prompts(folder: Path) -> list[str]:
    """The 100 prompts in their order."""
    path = next(_sheets(folder), None)
    if path is None:
        raise DataError(f"{folder} has no sheet of prompts ({_SHEET})")
    rows = read_rows(path)
    column = min(_PROMPT_COLUMN, max(map(len, rows), default=1) - 1)
    prompts = [str(row[column] or "").strip() for row in rows if len(row) > column]
    if len(prompts) != PROMPTS or not all(prompts):
        told = sum(map(bool, prompts))
        raise DataError(f"{path} has {told} prompts in column {column + 1} instead of {PROMPTS}")
    return prompts


def _sheets(folder: Path) -> Iterator[Path]:
    for place in reversed(_SCORE_FOLDERS):
        yield from sorted((folder / place).glob(_SHEET))


SET = DataSet(
    name="AIGCIQA2023",
    annotations=annotations,
    score_range=ScoreRange(low=0, high=100),
    marks=("|".join(f"{place}/{_QUALITY}".lstrip("/") for place in _SCORE_FOLDERS),),
    split_by="prompt",
    images=len(GENERATORS) * PROMPTS * PER_PROMPT,
    about="AIGCIQA2023 (Wang et al., 2023): generated images with opinion scores of quality, "
    "authenticity and correspondence, and their prompts.",
)
