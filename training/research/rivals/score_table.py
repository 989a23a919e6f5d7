"""Tables of scores that somebody else computed: which column holds them, and whose they are."""

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from training.data.samples import Sample
from training.errors import RivalError

IMAGE_COLUMNS = ("image", "path", "img_name", "name", "filename")
SCORE_COLUMNS = ("score", "quality", "prediction")
# What people said of an image is never taken for a rival's score unless it is named.
OPINION_COLUMNS = {"mos", "dmos", "mos_align", "mos_quality", "std_quality", "std_align"}

# A colon in a column's name is fine; a column named "lower" can't be named.
_FORM = re.compile(
    r"(?P<path>.+?\.(?:csv|jsonl?))(?::(?P<column>.+?))??(?P<lower>:lower)?", re.IGNORECASE
)

Row = dict[str, str]
Parts = tuple[str, ...]  # of an image's path


@dataclass(frozen=True)
class ScoreTable:
    """A rival whose scores are in a table, each beside the path or the name of its image."""

    name: str
    lower_better: bool
    scores: dict[Parts, float]
    target: str = "quality"
    trained_on: tuple[str, ...] | None = None

    def predict(self, samples: Sequence[Sample]) -> list[float]:
        """One score per sample: of the row whose path is the sample's or the end of it; else of the
        only row with its file name.

        Raises:
            RivalError: images without a row, or a row that would answer for several images.
        """
        names: dict[str, list[Parts]] = {}
        for parts in self.scores:
            names.setdefault(parts[-1], []).append(parts)
        rows = [self._row(sample, names) for sample in samples]
        if lacking := [str(s.path) for s, row in zip(samples, rows, strict=True) if row is None]:
            first = ", ".join(lacking[:3]) + (" ..." if len(lacking) > 3 else "")
            raise RivalError(f"{self.name} has no score for {len(lacking)} images: {first}")
        owner: dict[Parts, Path] = {}
        for sample, row in zip(samples, rows, strict=True):
            if row and owner.setdefault(row, sample.path) != sample.path:
                raise RivalError(
                    f"{self.name}: {'/'.join(row)} could be {owner[row]} or {sample.path}; "
                    "write longer paths into the table"
                )
        return [self.scores[row] for row in rows if row]

    def _row(self, sample: Sample, names: dict[str, list[Parts]]) -> Parts | None:
        parts = sample.path.parts
        for start in range(len(parts)):
            if parts[start:] in self.scores:
                return parts[start:]
        alike = names.get(sample.path.name, [])
        return alike[0] if len(alike) == 1 else None


def parse_table(text: str) -> ScoreTable | None:
    """Reads ``FILE.csv[:COLUMN][:lower]`` (.csv, .jsonl or .json); None for any other text.

    Raises:
        RivalError: no such file, or it can't be read; no column of images; no telling which column
            holds the scores; a score that isn't a number; one image with several scores.
    """
    if not (form := _FORM.fullmatch(text)):
        return None
    path = Path(form["path"])
    rows = _read(path)
    image = _image_column(path, rows)
    column = form["column"] or _score_column(path, rows, image)
    return ScoreTable(text, bool(form["lower"]), _scores(path, rows, image, column))


def _read(path: Path) -> list[Row]:
    """The rows as text, an absent value as the empty text; all have the same keys."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        records = _records(path.suffix.lower(), text)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RivalError(f"{path} can't be read as a table of scores: {error}") from error
    rows = [{k: "" if v is None else str(v).strip() for k, v in r.items() if k} for r in records]
    if not rows:
        raise RivalError(f"{path} holds no rows")
    return rows


def _records(suffix: str, text: str) -> list[dict[str, object]]:
    """What the lines of a CSV or a JSONL say, or the predictions of a report of ``agiqa evaluate``.

    Raises:
        ValueError, KeyError, TypeError, csv.Error: not laid out so.
    """
    if suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    if suffix == ".jsonl":
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    else:
        found = json.loads(text)["predictions"]
    if not all(isinstance(record, dict) for record in found):
        raise TypeError("a row must be an object")
    return found


def _image_column(path: Path, rows: Sequence[Row]) -> str:
    for column in IMAGE_COLUMNS:
        if column in rows[0]:
            return column
    raise RivalError(
        f"{path} has no column of images ({', '.join(IMAGE_COLUMNS)}), but {', '.join(rows[0])}"
    )


def _score_column(path: Path, rows: Sequence[Row], image: str) -> str:
    """The only one of ``SCORE_COLUMNS``; without any, the only other numeric column."""
    others = [c for c in rows[0] if c != image and c not in OPINION_COLUMNS and _numeric(rows, c)]
    found = [column for column in others if column in SCORE_COLUMNS] or others
    if not found:
        raise RivalError(f"{path} has no column of scores among {', '.join(rows[0])}")
    if len(found) > 1:
        raise RivalError(
            f"{path} has several columns of scores, {', '.join(found)}: pick one as "
            f"{path}:{found[0]}"
        )
    return found[0]


def _numeric(rows: Sequence[Row], column: str) -> bool:
    """Whether there are values, and all are numbers."""
    values = [_number(row[column]) for row in rows if row.get(column)]
    return bool(values) and all(map(math.isfinite, values))


def _scores(path: Path, rows: Sequence[Row], image: str, column: str) -> dict[Parts, float]:
    """Each image's score; rows without one (an image that could not be scored) are left out."""
    if column not in rows[0]:
        raise RivalError(f"{path} has no column {column}, but {', '.join(rows[0])}")
    scores: dict[Parts, float] = {}
    for number, row in enumerate(rows, start=1):
        parts = PurePosixPath(row.get(image, "").replace("\\", "/")).parts
        if not (parts and row.get(column)):
            continue
        score = _number(row[column])
        if not math.isfinite(score):
            raise RivalError(f"{path} row {number}: {row[column]!r} is no score")
        if scores.setdefault(parts, score) != score:
            raise RivalError(f"{path} has several scores for {row[image]} in the column {column}")
    return scores


def _number(text: str) -> float:
    """What it says; nan for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
