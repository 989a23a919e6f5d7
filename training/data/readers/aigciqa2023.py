"""AIGCIQA2023 (Wang et al., CICAI 2023), read as distributed: images, three score files, and the
prompts.

2400 images: 4 of each of 100 prompts by each of 6 generators. ``allimg/{n}.png`` has
n = 400 * generator + 4 * prompt + k, and its scores stand in row n of ``mosz1.mat`` (quality),
``mosz2.mat`` (authenticity) and ``mosz3.mat`` (correspondence with the prompt), key ``MOSz``
[2400, 1]. The prompts are a sheet without a header, a row each, in its third column.

Scores are standardised ratings around 50 of 0..100, high = better. Quality becomes ``mos``,
correspondence ``mos_align``; authenticity is not used.
"""

from itertools import product
from pathlib import Path

import pandas as pd

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
    scores = {name: _scores(folder, name) for name in (_QUALITY, _CORRESPONDENCE)}
    images = product(GENERATORS, _prompts(folder), range(PER_PROMPT))
    frame = pd.DataFrame(images, columns=["generator", "prompt", "k"]).assign(**scores)
    place = locate(*(folder / name for name in _IMAGE_FOLDERS))
    frame["path"] = [place(f"{number}.png") for number in frame.index]

    def parse(row: Row) -> Sample:
        path, prompt = row.read("path", Path), row.text("prompt")
        mos, aligned = (row.read(name, SET.unit) for name in scores)
        return Sample(SET.name, path, prompt, mos, aligned, prompt, row.text("generator"))

    return read_rows(folder, frame, parse)


def prompt_number(path: Path) -> int:
    """0 to 99, of the prompt that an image was generated from."""
    return int(path.stem) % (PER_PROMPT * PROMPTS) // PER_PROMPT


def _scores(folder: Path, name: str) -> list[float]:
    """[2400], of 100."""
    scores = variable(locate(*(folder / place for place in _SCORE_FOLDERS))(name), "MOSz")
    if len(scores) != SET.images:
        raise DataError(f"{name} has {len(scores)} scores instead of {SET.images}")
    return scores


def _prompts(folder: Path) -> list[str]:
    """The 100 prompts in their order."""
    places = [folder / place for place in reversed(_SCORE_FOLDERS)]
    path = next((sheet for place in places for sheet in sorted(place.glob(_SHEET))), None)
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


SET = DataSet(
    name="AIGCIQA2023",
    annotations=annotations,
    scale=(0, 100),
    marks=("|".join(f"{place}/{_QUALITY}".lstrip("/") for place in _SCORE_FOLDERS),),
    split_by="prompt",
    images=len(GENERATORS) * PROMPTS * PER_PROMPT,
    about="AIGCIQA2023 (Wang et al., 2023): generated images with opinion scores of quality, "
    "authenticity and correspondence, and their prompts.",
)
