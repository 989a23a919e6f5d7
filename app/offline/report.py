"""``report.html``: what was scored, by which model, the distributions, the worst and the best.

One file that loads nothing: styles and script inside and named by their hashes in its policy,
pictures as ``data:``. File names, prompts and messages are anybody's; the template escapes all.
"""

import base64
import hashlib
import io
import os
import urllib.parse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from app.offline.charts import HEIGHT as CHART_HEIGHT
from app.offline.charts import SIDE, histogram, scatter
from app.offline.charts import WIDTH as CHART_WIDTH
from app.offline.rows import HEADS, ModelFacts, Row
from app.offline.summary import Summary, leading_head, ranked, summarise
from model import images
from model.config import Head
from model.errors import ImageError
from model.files import replacing

TILES = 12
TABLE_ROWS = 5000
_LISTED_FAILURES = 50
_THUMBNAIL = (200, 200)
_MEASURED = (("srcc", "SRCC"), ("plcc", "PLCC"), ("krcc", "KRCC"), ("rmse", "RMSE"))


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture of a contact sheet; ``thumbnail`` None: it can't be shown any more."""

    name: str
    path: str
    link: str | None
    thumbnail: str | None
    row: Row


@dataclass(frozen=True, slots=True)
class Sheet:
    """Pictures under a title; ``head`` is the one that they were chosen by."""

    title: str
    text: str
    head: Head
    tiles: list[Tile]


@dataclass(frozen=True, slots=True)
class Failures:
    """Images that failed with one code: the first of them with what was said."""

    code: str
    count: int
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Measured:
    """One head's figures on images that training has not seen, as the table of the model has
    them.
    """

    head: str
    cells: list[str]


def write_report(
    file: Path,
    model: ModelFacts,
    rows: Sequence[Row],
    places: Mapping[str, Path],
    *,
    table: Path | None = None,
    now: datetime | None = None,
) -> None:
    """Writes the report, atomically.

    Args:
        file: where to; links to the images start there.
        model: that gave the scores.
        rows: all of OUT.
        places: files by the rows' ``path``, where they differ.
        table: OUT.
        now: the date that it bears.
    """
    text = render(model, rows, places, file.absolute().parent, table=table, now=now)
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(
    model: ModelFacts,
    rows: Sequence[Row],
    places: Mapping[str, Path],
    folder: Path,
    *,
    table: Path | None = None,
    now: datetime | None = None,
) -> str:
    """The text of the report that will lie in ``folder``."""
    summary = summarise(rows)
    environment = _environment()
    style, script = (_source(environment, f"report.{kind}") for kind in ("css", "js"))
    sheets = Sheets(rows, places, folder)
    listed, head = list(rows), None
    if summary.heads:
        head = leading_head(list(summary.heads))
        listed = [*ranked(rows, head), *(row for row in rows if row[head] is None)]
    return environment.get_template("report.html").render(
        model=model,
        summary=summary,
        heads=[name for name in HEADS if name in summary.heads],
        charts={name: histogram(name, d) for name, d in summary.heads.items()},
        scatter=scatter(rows, "quality", "consistency"),
        size=(CHART_WIDTH, CHART_HEIGHT, SIDE),
        sheets=sheets.all(summary),
        failures=failures_of(rows),
        rows=listed[:TABLE_ROWS],
        left_out=max(0, len(listed) - TABLE_ROWS),
        head=head,
        table=table.name if table else None,
        measured=measured(model),
        columns=["head", *(f"{label}" for _, label in _MEASURED), "without looking"],
        kinds=[k for k in ("prompt", "scene", "distortion") if any(row[k] for row in rows)],
        now=now or datetime.now().astimezone(),
        version=version("agiqa"),
        style=style,
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'",
    )


class Sheets:
    """Chooses the pictures of the contact sheets and makes them small, each once."""

    def __init__(self, rows: Sequence[Row], places: Mapping[str, Path], folder: Path) -> None:
        self._rows, self._places, self._folder = rows, places, folder
        self._tiles: dict[str, Tile] = {}

    def all(self, summary: Summary) -> list[Sheet]:
        """The worst, the best and a spread of the leading head; the least consistent."""
        if not summary.heads:
            return []
        head = leading_head(list(summary.heads))
        order = ranked(self._rows, head)
        low, high = order[:TILES], order[::-1][:TILES]
        sheets = [self._sheet(f"Lowest {head}", "The lowest first.", head, low)]
        if len(order) > TILES:
            sheets.append(self._sheet(f"Highest {head}", "The highest first.", head, high))
            text = f"{TILES} images at even steps through all that were scored, lowest to highest."
            sheets.append(self._sheet("From low to high", text, head, spread(order)))
        if head == "quality" and "consistency" in summary.heads:
            least = ranked(self._rows, "consistency")[:TILES]
            text = "Those that the model finds least consistent with their prompts."
            sheets.append(self._sheet("Lowest consistency", text, "consistency", least))
        return sheets

    def _sheet(self, title: str, text: str, head: Head, rows: Sequence[Row]) -> Sheet:
        return Sheet(title, text, head, [self._tile(row) for row in rows])

    def _tile(self, row: Row) -> Tile:
        path = row["path"]
        if path not in self._tiles:
            file = self._places.get(path, Path(path))
            link = link_to(file, self._folder)
            self._tiles[path] = Tile(Path(path).name, path, link, thumbnail(file), row)
        return self._tiles[path]


def spread(order: Sequence[Row]) -> list[Row]:
    """Rows at even steps from the first to the last."""
    last = len(order) - 1
    return [order[round(number * last / (TILES - 1))] for number in range(TILES)]


def thumbnail(file: Path) -> str | None:
    """The image as scored (upright, sRGB), small, as a ``data:`` address; None: can't be read."""
    try:
        small = images.read(file)
    except (ImageError, OSError, ValueError):
        return None
    small.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def link_to(file: Path, folder: Path) -> str | None:
    """The file's address as seen from a folder; None where there is no way (another drive)."""
    try:
        way = os.path.relpath(file, folder)
    except ValueError:
        return None
    return urllib.parse.quote(os.fsencode(way.replace(os.sep, "/")))


def failures_of(rows: Sequence[Row]) -> list[Failures]:
    """The failures, by code, the commonest first."""
    by_code: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["code"]:
            by_code[row["code"]].append(row)
    found = [Failures(code, len(r), r[:_LISTED_FAILURES]) for code, r in by_code.items()]
    return sorted(found, key=lambda group: -group.count)


def measured(model: ModelFacts) -> list[Measured]:
    """The model's figures on images that training has not seen, as text."""
    table = []
    for head in HEADS:
        names = [f"{head}_{figure}" for figure, _ in _MEASURED] + [f"floor_{head}_srcc"]
        if f"{head}_srcc" in model.figures:
            table.append(Measured(head, [_figure(model, name) for name in names]))
    return table


def _figure(model: ModelFacts, name: str) -> str:
    if name not in model.figures:
        return "-"
    value = f"{model.figures[name]:.3f}"
    interval = model.intervals.get(name)
    if name.endswith("_srcc") and interval and len(interval) == 2:
        return f"{value} ({interval[0]:.3f} to {interval[1]:.3f})"
    return value


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("app.offline"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0].strip()


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
