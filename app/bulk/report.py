"""``report.html``: what was scored, by which model, the distributions, the worst and the best."""

import io
import os
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from PIL import Image

from app.bulk.rows import ModelFacts, Row
from app.bulk.summary import Distribution, Summary, ranked, summarise
from model.config import HEADS, Head
from model.errors import ImageError
from model.preprocess import images
from model.store.files import write_atomically
from reporting import charts
from reporting.document import Document, Figure, KeyFigure, Section, Table, Tile
from reporting.html import to_html
from reporting.text import counted

TILES = 12
TABLE_ROWS = 5000
_LISTED_FAILURES = 50
_THUMBNAIL = (200, 200)
_MEASURED = {"srcc": "SRCC", "plcc": "PLCC", "krcc": "KRCC", "rmse": "RMSE"}
# What the scores do not say, by the figure of the model that it needs.
_CAVEATS = {
    "": "A score is a guess at the mean opinion of people. SRCC says how well the order of such "
    "guesses agrees with the order of opinions: 1 is perfect, 0 is chance.",
    "quality_rmse": "A quality is off by {quality_rmse:.2f} (RMSE): differences between two images "
    "that are smaller say little.",
    "floor_quality_srcc": "“Without looking” is what one gets who knows only which generator made "
    "the image.",
    "consistency_srcc_permuted_prompts": "With the prompts exchanged among the images, consistency "
    "still had an SRCC of {consistency_srcc_permuted_prompts:.3f} (with the right ones "
    "{consistency_srcc:.3f}): compare these.",
    "own_prompt_beats_another": "Of an image's own prompt and another one, the own one had the "
    "higher consistency in {own_prompt_beats_another:.0%} of pairs; chance is 50%.",
}
_LABELS = ("prompt", "scene", "distortion")


def write_report(
    file: Path,
    model: ModelFacts,
    rows: Sequence[Row],
    paths: Mapping[str, Path],
    *,
    table: Path | None = None,
) -> None:
    """Writes the report, atomically.

    Args:
        file: where to; links to the images start there.
        model: that gave the scores.
        rows: all of OUT.
        paths: files by the rows' ``path``, where they differ.
        table: OUT.

    Raises:
        ReportingError: what it is written with is missing.
    """
    document = report_document(model, rows, Gallery(paths, file.absolute().parent), table=table)
    write_atomically(file, to_html(document).encode())


def report_document(
    model: ModelFacts,
    rows: Sequence[Row],
    gallery: "Gallery",
    *,
    table: Path | None = None,
    now: datetime | None = None,
) -> Document:
    """The report; ``now`` is the date that it bears."""
    summary = summarise(rows)
    date = (now or datetime.now().astimezone()).strftime("%Y-%m-%d at %H:%M %Z")
    return Document(
        f"Image quality: {counted(summary.images, 'image')}, {model.name}",
        f"Scored by {model.name} on {date}. Scores lie between 0 and 1; high is better.",
        (
            *_distributions(summary, rows),
            *_sheets(summary, rows, gallery),
            *_failures(summary, rows),
            _all_images(summary, rows, table),
            _trust(model, summary),
        ),
        {"agiqa": version("agiqa")},
        tuple(_key_figures(summary)),
    )


class Gallery:
    """Makes the tiles of images: links as seen from ``folder``, and thumbnails, each made once.

    Args:
        paths: files by the rows' ``path``, where they differ.
        folder: of the report.
    """

    def __init__(self, paths: Mapping[str, Path], folder: Path) -> None:
        self._places = paths
        self._folder = folder
        self._thumbnails: dict[str, bytes | None] = {}

    def tile(self, row: Row, head: Head) -> Tile:
        """The image of a row with its score of ``head``."""
        path = row["path"]
        file = self._places.get(path, Path(path))
        if path not in self._thumbnails:
            self._thumbnails[path] = thumbnail(file)
        return Tile(
            Path(path).name,
            path,
            link_to(file, self._folder),
            self._thumbnails[path],
            row[head],
            _beside(row, head),
            row["prompt"] or ", ".join(filter(None, (row["scene"], row["distortion"]))),
        )


def _beside(row: Row, head: Head) -> str:
    """The score that says most beside that of ``head``; for quality that is consistency."""
    others = HEADS[::-1] if head == "quality" else HEADS
    found = [name for name in others if name != head and row[name] is not None]
    return f"{found[0]} {row[found[0]]:.2f}" if found else ""


def thumbnail(file: Path) -> bytes | None:
    """The image as scored (upright, sRGB), small, as JPEG; None: can't be read."""
    try:
        small = images.read(file)
    except (ImageError, OSError, ValueError):
        return None
    small.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80, optimize=True)
    return buffer.getvalue()


def link_to(file: Path, folder: Path) -> str | None:
    """The file's address as seen from a folder; None where there is no way (another drive)."""
    try:
        way = os.path.relpath(file, folder)
    except ValueError:
        return None
    return urllib.parse.quote(os.fsencode(way.replace(os.sep, "/")))


def _key_figures(summary: Summary) -> Iterator[KeyFigure]:
    images_ = "image" if summary.scored == 1 else "images"
    yield KeyFigure(f"{summary.scored:,}", f"{images_} with scores")
    if failed := summary.images - summary.scored:
        yield KeyFigure(f"{failed:,}", "could not be scored", bad=True)
    for head, d in summary.heads.items():
        yield KeyFigure(f"{d.mean:.3f}", f"mean {head}")


def _distributions(summary: Summary, rows: Sequence[Row]) -> Iterator[Section]:
    figures = [_histogram(head, d, summary.scored) for head, d in summary.heads.items()]
    if figures:
        text = "The line is the mean; 5 % of the images lie below p5, 95 % below p95."
        yield Section("How the scores lie", text, figures=(*figures, *_scatter(rows)))


def _histogram(head: Head, d: Distribution, scored: int) -> Figure:
    values = {"mean": d.mean, "median": d.median, "p5": d.p5, "p95": d.p95}
    return Figure(
        head,
        f"Of {counted(d.count, 'image')}." if d.count != scored else "",
        charts.histogram(d.bins, d.mean),
        "svg",
        f"Histogram of {head} of {counted(d.count, 'image')}: half lie under {d.median:.3f}, "
        f"90 % between {d.p5:.3f} and {d.p95:.3f}.",
        title=head.capitalize(),
        values={name: f"{value:.3f}" for name, value in values.items()},
        inline=True,
    )


def _scatter(rows: Sequence[Row]) -> Iterator[Figure]:
    """Consistency over quality, where three images have both; of very many, an even choice."""
    pairs = [(r["quality"], r["consistency"]) for r in rows]
    pairs = [pair for pair in pairs if None not in pair]
    if len(pairs) < 3:
        return
    drawn = pairs[:: -(-len(pairs) // charts.MOST_POINTS)]
    caption = (
        "Each dot is an image: quality to the right, consistency with its prompt upwards. At the "
        "bottom right would be good images of something else than was asked for."
    )
    if len(drawn) < len(pairs):
        caption += f" {len(drawn):,} of {len(pairs):,} images are drawn."
    image = charts.scatter(drawn, "quality", "consistency")
    alt = f"Scatter plot of {len(drawn)} images, consistency over quality."
    title = "Quality and consistency"
    yield Figure("scatter", caption, image, "svg", alt, title=title, inline=True)


def _sheets(summary: Summary, rows: Sequence[Row], gallery: Gallery) -> Iterator[Section]:
    """The worst, the best and a spread of the leading head; the least consistent."""
    head = summary.leading_head
    if head is None:
        return

    def sheet(title: str, text: str, by: Head, chosen: Sequence[Row]) -> Section:
        return Section(title, text, gallery=tuple(gallery.tile(row, by) for row in chosen))

    order = ranked(rows, head)
    yield sheet(f"Lowest {head}", "The lowest first.", head, order[:TILES])
    if len(order) > TILES:
        yield sheet(f"Highest {head}", "The highest first.", head, order[::-1][:TILES])
        text = f"{TILES} images at even steps through all that were scored, lowest to highest."
        yield sheet("From low to high", text, head, spread(order))
    if head == "quality" and "consistency" in summary.heads:
        least = ranked(rows, "consistency")[:TILES]
        text = "Those that the model finds least consistent with their prompts."
        yield sheet("Lowest consistency", text, "consistency", least)


def spread(order: Sequence[Row]) -> list[Row]:
    """Rows at even steps from the first to the last."""
    last = len(order) - 1
    return [order[round(number * last / (TILES - 1))] for number in range(TILES)]


def _failures(summary: Summary, rows: Sequence[Row]) -> Iterator[Section]:
    """The failures by code, the commonest first."""
    tables = []
    for code, count in summary.failures.items():
        failed = [(r["path"], r["detail"] or "") for r in rows if r["code"] == code]
        shown = tuple(failed[:_LISTED_FAILURES])
        tables.append(Table(("path", "detail"), shown, code, prose=("detail",), total=count))
    if tables:
        yield Section("Not scored", tables=tuple(tables))


def _all_images(summary: Summary, rows: Sequence[Row], table: Path | None) -> Section:
    head = summary.leading_head
    listed = list(rows)
    if head:
        listed = [*ranked(rows, head), *(row for row in rows if row[head] is None)]
    words = [name for name in (*_LABELS, "code") if any(row[name] for row in rows)]
    cells = tuple(
        (
            row["path"],
            *("" if row[h] is None else f"{row[h]:.3f}" for h in summary.heads),
            *(row[name] or "" for name in words),
        )
        for row in listed[:TABLE_ROWS]
    )
    text = ""
    if left_out := len(listed) - len(cells):
        elsewhere = table.name if table else "the table"
        text = f"The {len(cells):,} with the lowest {head or 'scores'}; "
        text += f"{left_out:,} more stand in {elsewhere}."
    header = ("path", *summary.heads, *words)
    found = Table(header, cells, prose=("prompt",), sortable=True, sorted_by=head or "")
    return Section("All images", text, (found,))


def _trust(model: ModelFacts, summary: Summary) -> Section:
    low, high = model.score_range
    backbone = "a backbone of its own" if model.backbone == "own" else model.backbone
    facts = {
        "Name": model.name,
        "Revision": model.revision,
        "Method": ", on ".join(filter(None, (model.method, backbone))),
        "Trained on": ", ".join(model.trained_on),
        "Crops": model.crop_policy,
        "Scale": f"quality 0 to 1 stands for a mean opinion of {low:g} to {high:g}",
    }
    return Section(
        "The model, and how far it can be trusted",
        tables=tuple(_measured(model)),
        findings=tuple(_caveats(model, summary)),
        facts={name: fact for name, fact in facts.items() if fact},
    )


def _measured(model: ModelFacts) -> Iterator[Table]:
    """The model's figures on images that training has not seen."""
    rows = []
    for head in HEADS:
        names = [*(f"{head}_{figure}" for figure in _MEASURED), f"floor_{head}_srcc"]
        if f"{head}_srcc" in model.figures:
            rows.append((head, *(_figure(model, name) for name in names)))
    if rows:
        count = f"{model.tested_on} images" if model.tested_on else "images"
        caption = (
            f"Measured against people's opinions of {count} that training has not seen. SRCC with "
            "its 95 % interval where it is known."
        )
        yield Table(("head", *_MEASURED.values(), "without looking"), tuple(rows), caption)


def _figure(model: ModelFacts, name: str) -> str:
    if name not in model.figures:
        return "-"
    value = f"{model.figures[name]:.3f}"
    interval = model.intervals.get(name)
    if name.endswith("_srcc") and interval and len(interval) == 2:
        return f"{value} ({interval[0]:.3f} to {interval[1]:.3f})"
    return value


def _caveats(model: ModelFacts, summary: Summary) -> Iterator[str]:
    """What the scores do not say."""
    for name, sentence in _CAVEATS.items():
        about_prompts = name.startswith(("consistency", "own_prompt"))
        if name in ("", *model.figures) and ("consistency" in summary.heads or not about_prompts):
            yield sentence.format(**model.figures)
    if model.trained_on:
        yield (
            f"On images unlike those of {' and '.join(model.trained_on)} nothing was measured; "
            "look at the sheets above before you rely on a threshold."
        )
