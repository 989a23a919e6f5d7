"""Any other data set: a CSV ``image,mos[,mos_align,prompt,group,split,scene,distortion]`` beside
its images.

The names that pyiqa gives these columns are understood too (``img_name``, ``dist_name``,
``ref_name``, ``dmos``); other columns are ignored. Images are relative to the CSV's folder. Several
scenes are joined by ";". Scenes and distortions go by the names of MP-IQE, or by those of LIQE's
label files.

No table tells its scale: range and direction are declared by whoever uses it (``table_set``). Both
scores are on the same scale.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from training.data.dataset import DataSet
from training.data.readers.labels import PART_NAMES, distortion_listed, scenes_listed
from training.data.readers.rows import Row, read_csv, read_rows, require
from training.data.samples import Sample
from training.errors import DataError

# What each column may be called; the first that a table has is read.
_NAMES: Mapping[str, Sequence[str]] = {
    "image": ("image", "img_name", "dist_name"),
    "mos": ("mos", "dmos"),
    "mos_align": ("mos_align",),
    "prompt": ("prompt",),
    "group": ("group", "ref_name"),
    "split": ("split",),
    "scene": ("scene",),
    "distortion": ("distortion",),
}
_REQUIRED = ("image", "mos")


def table_set(
    name: str, low: float, high: float, *, lower_better: bool = False, file: str | None = None
) -> DataSet:
    """The data set of a CSV with a declared scale: scores from ``low`` to ``high``, and whether low
    ones are the better. ``file`` names the CSV within the folder; without it the folder's only one
    that fits is taken. What a split keeps together is the ``group`` (or ``ref_name``), else the
    prompt, else the image.

    Raises:
        DataError: an empty range.
    """
    if not low < high:
        raise DataError(f"a scale from {low:g} to {high:g} is empty")

    def annotations(folder: Path) -> list[Sample]:
        return _annotations(data, folder, file or find(folder))

    data = DataSet(
        name=name,
        annotations=annotations,
        scale=(low, high),
        marks=(file or "*.csv",),
        split_by="group",
        images=0,
        about=f"{name}: images with opinion scores, listed in a CSV.",
        lower_better=lower_better,
    )
    return data


def find(folder: Path) -> str:
    """The name of the only CSV of a folder that lists images with opinion scores.

    Raises:
        DataError: there is none, or there are several.
    """
    fitting = [path.name for path in sorted(folder.glob("*.csv")) if _fits(path)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise DataError(f"{folder} has several tables of images ({', '.join(fitting)}): name one")
    columns = " and ".join("/".join(_NAMES[ours]) for ours in _REQUIRED)
    raise DataError(f"{folder} has no CSV with the columns {columns}")


def observed(folder: Path, file: str) -> tuple[float, float]:
    """The lowest and the highest of a table's opinion scores, alignment included, as they stand
    there: no statement of its scale.

    Raises:
        DataError: a score that is no number (row and column are named), or none.
    """
    path = folder / file
    frame = read_csv(path)
    columns = _columns(frame)
    scored = [name for ours in ("mos", "mos_align") if (name := columns[ours]) in frame]

    def parse(row: Row) -> list[float]:
        return [row.read(column, float) for column in scored if row.text(column)]

    scores = [score for listed in read_rows(path, frame, parse) for score in listed]
    if not scores:
        raise DataError(f"{path} has no opinion score")
    return min(scores), max(scores)


def _annotations(data: DataSet, folder: Path, file: str) -> list[Sample]:
    path = folder / file
    frame = read_csv(path)
    columns = _columns(frame)
    require(path, frame, [columns[ours] for ours in _REQUIRED])
    frame = frame.reindex(columns=list(columns.values()), fill_value="")
    return read_rows(path, frame, partial(_sample, data, path.parent, columns))


def _sample(data: DataSet, folder: Path, columns: Mapping[str, str], row: Row) -> Sample:
    """One row; ``columns`` has the table's names of ours."""
    image = row.read(columns["image"], _image)
    prompt, split = row.text(columns["prompt"]), row.text(columns["split"])
    aligned = columns["mos_align"]
    return Sample(
        dataset=data.name,
        path=folder / image,
        group=row.text(columns["group"]) or prompt or image,
        mos=row.read(columns["mos"], data.unit),
        mos_align=row.read(aligned, data.unit) if row.text(aligned) else None,
        prompt=prompt,
        scenes=row.read(columns["scene"], scenes_listed),
        distortion=row.read(columns["distortion"], distortion_listed),
        part=PART_NAMES.get(split, split),
    )


def _image(cell: str) -> str:
    if not cell.strip():
        raise ValueError("it names no image")
    return cell.strip()


def _fits(path: Path) -> bool:
    frame = read_csv(path, nrows=0)
    columns = _columns(frame)
    return all(columns[ours] in frame for ours in _REQUIRED)


def _columns(frame: pd.DataFrame) -> dict[str, str]:
    """The table's own name of each of our columns; ours of a column that it lacks."""
    return {ours: next((n for n in names if n in frame), ours) for ours, names in _NAMES.items()}
