"""AGIQA-1K (Zhang et al., "A Perceptual Quality Assessment Exploration for AIGC Images", 2023),
read as distributed: images, and ``AIGC_MOS_Zscore.xlsx`` (Image, Prompt, MOS).

1080 images by two services, deepai (Stable Diffusion 2) and dreamStudio (Stable Inpainting 1). The
name ``{generator}_{main}_{second}_{place}_{style}.jpg`` numbers what the prompt asks for: one of
12 main objects (bird, cat ...), one of 15 things it does (driving aircraft ...), in the city or in
the wild, in anime or realistic style. What a split keeps together is the object: main and second.
Scores lie in 0..5, high = better.

As published, ``dreamStudio_8_9_1_1.jpg`` is listed twice, with different scores. Nothing tells
which of them is this image's and which another's, so both rows are left out.
"""

from pathlib import Path

from training.data.dataset import DataSet
from training.data.paths import locate
from training.data.readers.rows import Row, read_rows, read_sheet
from training.data.samples import Sample

_TABLE = "AIGC_MOS_Zscore.xlsx"
_COLUMNS = ("Image", "Prompt", "MOS")
# The archive unpacks to "file"; others keep the images beside the table, or under a plain name.
_FOLDERS = ("file", "", "img", "images")


def annotations(folder: Path) -> list[Sample]:
    """Every row of the table whose image has one score only.

    Raises:
        DataError: no table, a column missing, or a row that can't be read (it is named).
    """
    place = locate(*(folder / name for name in _FOLDERS))

    def parse(row: Row) -> Sample:
        generator, group = row.read("Image", _generator_and_object)
        path, mos = place(row.text("Image")), row.read("MOS", SET.unit)
        prompt = row.text("Prompt")
        return Sample(SET.name, path, group, mos, prompt=prompt, generator=generator)

    table = folder / _TABLE
    return _unambiguous(read_rows(table, read_sheet(table, _COLUMNS), parse))


def _generator_and_object(name: str) -> tuple[str, str]:
    generator, main, second, *_ = name.split("_")
    return generator.strip(), f"object {int(main)} {int(second)}"


def _unambiguous(samples: list[Sample]) -> list[Sample]:
    """Without the images that have several scores; one that is only listed again counts once."""
    scores: dict[Path, set[float]] = {}
    for sample in samples:
        scores.setdefault(sample.path, set()).add(sample.mos)
    once = {sample.path: sample for sample in samples}
    return [sample for path, sample in once.items() if len(scores[path]) == 1]


SET = DataSet(
    name="AGIQA-1K",
    annotations=annotations,
    scale=(0, 5),
    marks=(_TABLE,),
    split_by="object",
    images=1080,
    about="AGIQA-1K (MIT licence): generated images with opinion scores of quality, and their "
    "prompts.",
)
