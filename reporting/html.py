"""A document as one HTML file that loads nothing: styles and script inside and named by their
hashes in its policy, images embedded.
"""

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

from reporting.document import MEDIA_TYPES, Document, Table, paragraphs
from reporting.errors import ReportingError

if TYPE_CHECKING:
    from jinja2 import Environment


def to_html(document: Document) -> str:
    """The text of ``report.html``; everything that ``document`` holds is escaped.

    Raises:
        ReportingError: Jinja is missing.
    """
    sortable = any(table.sortable for section in document.sections for table in section.tables)
    style = _source("report.css")
    script = _source("report.js") if sortable else ""
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
    policy += f"script-src {_hash(script)}; " if script else ""
    template = jinja().get_template("report.html")
    return template.render(
        document=document,
        policy=f"{policy}base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
    )


def jinja() -> "Environment":
    """What fills the template. Whoever works long for a report calls it first, to know that the
    report can be written.

    Raises:
        ReportingError: Jinja is missing.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise ReportingError(
            "an HTML report is written with Jinja, which is missing: pip install 'agiqa[score]'"
        ) from error
    environment = Environment(
        loader=PackageLoader("reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"paragraphs": paragraphs, "data": embedded, "classes": column_classes}
    return environment


def embedded(image: bytes, kind: str) -> str:
    """An image as a ``data:`` address. An SVG too: as an image it can run no script, and its ids
    can't meet those of the next.
    """
    return f"data:{MEDIA_TYPES[kind]};base64,{base64.b64encode(image).decode()}"


def column_classes(table: Table) -> list[str]:
    """The class of each column's cells: ``text``, ``number`` or none. The first names the rows."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.header)
    classes = ["number" if cells and all(map(_is_number, cells)) else "" for cells in columns]
    for place, heading in enumerate(table.header):
        classes[place] = "text" if heading in table.prose else classes[place]
    classes[:1] = [""]
    return classes


def _is_number(cell: str) -> bool:
    """Whether a cell begins as a number does, or stands for one that there isn't."""
    return cell in {"", "-"} or cell.lstrip("+-.")[:1].isdigit()


def _source(name: str) -> str:
    return (files("reporting") / "templates" / name).read_text(encoding="utf-8").strip()


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
