"""Any other data set: a CSV ``image,mos[,mos_align,prompt,group,split,scene,distortion]`` beside
its images.

The names that pyiqa gives these columns are understood too (``img_name``, ``dist_name``,
``ref_name``, ``dmos``); other columns are ignored. Images are relative to the CSV's folder. Several
scenes are joined by ";". Scenes and distortions go by the names of MP-IQE, or by those of LIQE's
label files.

No table tells its scale: range and direction are declared by whoever uses it (``table_set``). Both
scores are on the same scale.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from model.config import ScoreRange
from training.data.dataset import DataSet
from training.data.labels import distortion_named, scene_named
from training.data.samples import Sample, read_table
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
_PARTS = {"training": "train", "val": "validation"}


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
        score_range=ScoreRange(low=low, high=high),
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
    columns = " and ".join("/".join(_NAMES[column]) for column in ("image", "mos"))
    raise DataError(f"{folder} has no CSV with the columns {columns}")


def observed(folder: Path, file: str) -> tuple[float, float]:
    """The lowest and the highest of a table's opinion scores, alignment included, as they stand
    there: no statement of its scale.

    Raises:
        DataError: a score that is no number, or no row.
    """
    path = folder / file
    columns = _columns(path)
    scored = [columns[column] for column in ("mos", "mos_align") if column in columns]
    try:
        scores = [float(row[c]) for row in _rows(path) for c in scored if row[c]]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} has a score that is no number: {error}") from error
    if not scores:
        raise DataError(f"{path} has no opinion score")
    return min(scores), max(scores)


def _annotations(data: DataSet, folder: Path, file: str) -> list[Sample]:
    columns = _columns(folder / file)

    def parse(row: dict[str, str]) -> Sample:
        cells = {ours: (row[theirs] or "").strip() for ours, theirs in columns.items()}
        return _sample(data, (folder / file).parent, cells)

    wanted = [columns.get(column, column) for column in ("image", "mos")]
    return read_table(folder, file, wanted, parse)


def _sample(data: DataSet, folder: Path, cells: Mapping[str, str]) -> Sample:
    """One row; columns that the table lacks are empty cells."""
    told = {name: cells.get(name, "") for name in _NAMES}
    if not told["image"]:
        raise ValueError("it names no image")
    return Sample(
        dataset=data.name,
        path=folder / told["image"],
        group=told["group"] or told["prompt"] or told["image"],
        mos=data.unit(float(told["mos"])),
        mos_align=data.unit(float(told["mos_align"])) if told["mos_align"] else None,
        prompt=told["prompt"],
        scenes=tuple(scene_named(s.strip()) for s in told["scene"].split(";") if s.strip()),
        distortion=distortion_named(told["distortion"]) if told["distortion"] else "",
        part=_PARTS.get(told["split"], told["split"]),
    )


def _fits(path: Path) -> bool:
    return {"image", "mos"} <= set(_columns(path))


def _columns(path: Path) -> dict[str, str]:
    """The table's own name of each of our columns that it has."""
    header = next(_lines(path), [])
    present = {ours: [n for n in names if n in header] for ours, names in _NAMES.items()}
    return {ours: names[0] for ours, names in present.items() if names}


def _rows(path: Path) -> Iterator[dict[str, str]]:
    lines = _lines(path)
    header = next(lines, [])
    for line in lines:
        yield dict(zip(header, line, strict=False))


def _lines(path: Path) -> Iterator[list[str]]:
    if not path.is_file():
        raise DataError(f"{path.parent} has no {path.name}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.reader(file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can't be read as a CSV: {error}") from error
