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

import pandas as pd

from model.config import ScoreRange
from training.data.dataset import DataSet
from training.data.paths import locate
from training.data.readers.matlab import variable
from training.data.readers.rows import Row, read_rows, read_sheet
from training.data.samples import Sample
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
    each = PROMPTS * PER_PROMPT
    scores = {name: _scores(folder, name) for name in (_QUALITY, _CORRESPONDENCE)}
    prompts = [prompt for prompt in _prompts(folder) for _ in range(PER_PROMPT)]
    generators = [generator for generator in GENERATORS for _ in range(each)]
    listed = {**scores, "prompt": prompts * len(GENERATORS), "generator": generators}
    place = locate(*(folder / name for name in _IMAGE_FOLDERS))
    paths = [place(f"{number}.png") for number in range(SET.images)]

    def parse(row: Row) -> Sample:
        path, prompt = row.read("path", Path), row.text("prompt")
        mos, aligned = (row.read(name, SET.unit) for name in scores)
        return Sample(SET.name, path, prompt, mos, aligned, prompt, row.text("generator"))

    return read_rows(folder, pd.DataFrame({**listed, "path": paths}), parse)


def _scores(folder: Path, name: str) -> list[float]:
    """[2400], of 100."""
    paths = [folder / place / name for place in _SCORE_FOLDERS]
    scores = variable(next((path for path in paths if path.is_file()), paths[0]), "MOSz")
    if len(scores) != SET.images:
        raise DataError(f"{name} has {len(scores)} scores instead of {SET.images}")
    return scores


def _prompts(folder: Path) -> list[str]:
    """The 100 prompts in their order."""
    path = next(_sheets(folder), None)
    if path is None:
        raise DataError(f"{folder} has no sheet of prompts ({_SHEET})")
    sheet = read_sheet(path, header=None)
    column = min(_PROMPT_COLUMN, sheet.shape[1] - 1)
    prompts = [prompt for text in sheet.get(column, []) if (prompt := text.strip())]
    if not len(prompts) == len(sheet) == PROMPTS:
        raise DataError(
            f"{path} has {len(prompts)} prompts in column {column + 1} instead of {PROMPTS}"
        )
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
