"""What a report is made of, whatever it is written as: sections of prose, tables, figures and
galleries, and the facts of where it comes from.

All text is plain: the writers (``markdown``, ``html``) escape it, so that a file name or a prompt
can hold anything. Blank lines part paragraphs.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# How a figure's image is stored, and what a browser calls it.
MEDIA_TYPES = {"svg": "image/svg+xml", "png": "image/png", "jpeg": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column names the rows.

    Args:
        header: the headings of its columns.
        rows: their cells.
        caption: stands above it.
        prose: headings of columns that hold words, whatever the words begin with; any other column
            is one of numbers if its cells begin like numbers.
        sortable: readers can sort it by its columns and search it, where the form lets them.
        sorted_by: the heading of the column that the rows ascend by.
        total: of how many rows ``rows`` are the first; a table with a total folds away under its
            caption, where the form lets it.

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    prose: tuple[str, ...] = ()
    sortable: bool = False
    sorted_by: str = ""
    total: int | None = None

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"{len(row)} cells under {len(self.header)} headings: {row}")

    @property
    def left_out(self) -> int:
        """How many rows are not shown."""
        return 0 if self.total is None else self.total - len(self.rows)


@dataclass(frozen=True, slots=True)
class Figure:
    """A finished image with words.

    Args:
        name: becomes its file name.
        caption: stands under it.
        image: the bytes of a file.
        kind: of which format.
        alt: says what it shows to who can't see it.
        title: stands above it.
        values: numbers by name, between image and caption.
        inline: an SVG of ``charts``, which becomes part of the HTML page and takes its colours.
            Its markup is trusted: no other may be inline.

    Raises:
        ValueError: without an ``alt``, or of an unknown kind.
    """

    name: str
    caption: str
    image: bytes
    kind: Literal["svg", "png", "jpeg"]
    alt: str
    title: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    inline: bool = False

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError(f"the figure {self.name!r} needs an alt text")
        if self.kind not in MEDIA_TYPES:
            raise ValueError(f"a figure is {', '.join(MEDIA_TYPES)}, not {self.kind!r}")


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture of a gallery with its score.

    Args:
        name: of its file.
        path: the whole of it.
        link: the file's address as seen from the report; None: there is none.
        thumbnail: a small JPEG; None: the file can't be shown.
        score: in [0, 1].
        beside: another score, in words.
        note: what else is known of it: its prompt, say.
    """

    name: str
    path: str
    link: str | None
    thumbnail: bytes | None
    score: float
    beside: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report; ``findings`` are sentences that stand in a box above the rest."""

    title: str
    text: str = ""
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    findings: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    gallery: tuple[Tile, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """A number that stands large above the report; ``bad``: it needs the reader's attention."""

    value: str
    label: str
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A report.

    ``facts``: its provenance by name, as "command", "data", "seeds", "git revision", "versions".
    """

    title: str
    summary: str
    sections: tuple[Section, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    key_figures: tuple[KeyFigure, ...] = ()


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, each on one line."""
    parts = re.split(r"\n\s*\n", text)
    return [joined for part in parts if (joined := " ".join(part.split()))]


def figure_files(document: Document) -> list[list[str]]:
    """The file name of every figure, section by section; those of one name are numbered."""
    taken: Counter[str] = Counter()
    return [[_file(figure, taken) for figure in s.figures] for s in document.sections]


def _file(figure: Figure, taken: Counter[str]) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", figure.name.lower()).strip("-")[:80] or "figure"
    number = 1
    while taken[name := stem if number == 1 else f"{stem}-{number}"]:
        number += 1
    taken[name] += 1
    return f"{name}.{figure.kind}"
