"""A document as one HTML file that loads nothing: styles inside, figures embedded."""

import base64
from dataclasses import dataclass
from functools import cache
from itertools import count

from jinja2 import Environment, PackageLoader, StrictUndefined

from training.reports.document import MEDIA_TYPES, Document, Figure, Table, paragraphs


@dataclass(frozen=True, slots=True)
class _Grid:
    """A table as the template wants it: each cell with whether its column holds numbers."""

    number: int
    caption: str
    header: list[tuple[str, bool]]
    rows: list[list[tuple[str, bool]]]


def to_html(document: Document) -> str:
    """The text of ``report.html``; everything that ``document`` holds is escaped."""
    numbers = count(1)
    return (
        _environment()
        .get_template("report.html")
        .render(
            document=document,
            tables=[[_grid(table, next(numbers)) for table in s.tables] for s in document.sections],
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("training.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"paragraphs": paragraphs, "embedded": embedded}
    return environment


def embedded(figure: Figure) -> str:
    """The figure's image as a ``data:`` address. An SVG too: as an image it can run no script, and
    its ids can't meet those of the next.
    """
    return f"data:{MEDIA_TYPES[figure.kind]};base64,{base64.b64encode(figure.image).decode()}"


def _grid(table: Table, number: int) -> _Grid:
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.header)
    kinds = [bool(cells) and all(map(_is_number, cells)) for cells in columns]
    kinds[:1] = [False]  # it names the rows
    rows = [list(zip(row, kinds, strict=True)) for row in table.rows]
    return _Grid(number, table.caption, list(zip(table.header, kinds, strict=True)), rows)


def _is_number(cell: str) -> bool:
    """Whether a cell begins as a number does, or stands for one that there isn't."""
    return cell in {"", "-"} or cell.lstrip("+-.")[:1].isdigit()
