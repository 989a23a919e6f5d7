"""A document as GitHub's Markdown, its figures as files beside it.

Key figures, galleries and the facts of a section are for HTML alone: no report that has them is
written as Markdown.
"""

import re
from collections.abc import Iterable

from reporting.document import Document, Figure, Section, Table, figure_files, paragraphs

# What would be read as Markdown or HTML; an underscore only where it can begin or end emphasis, so
# that file names stay legible.
_SPECIAL = re.compile(r"([\\`*\[\]<>|&~$]|(?<!\w)_|_(?!\w))")
# What would make a paragraph a heading, a list or a rule.
_OPENING = re.compile(r"^(\d*)([#+=-]|(?<=\d)[.)])(?=\W|$)")


def to_markdown(document: Document, figures_folder: str = "figures") -> str:
    """The text of ``report.md``; ``figures_folder`` is where its figures lie, relative to it."""
    parts = [f"# {_line(document.title)}", *_prose(document.summary)]
    for section, files in zip(document.sections, figure_files(document), strict=True):
        parts += _section(section, [f"{figures_folder}/{file}" for file in files])
    if document.facts:
        rows = tuple(document.facts.items())
        parts += ["## Where this comes from", markdown_table(Table(("what", "value"), rows))]
    return "\n\n".join(parts) + "\n"


def _section(section: Section, paths: Iterable[str]) -> list[str]:
    parts = [f"## {_line(section.title)}"]
    if section.findings:
        parts.append("\n".join(f"> - {_line(finding)}" for finding in section.findings))
    parts += _prose(section.text)
    for table in section.tables:
        parts += [f"**{_line(table.caption)}**"] if table.caption.strip() else []
        parts.append(markdown_table(table))
    for figure, path in zip(section.figures, paths, strict=True):
        parts += _figure(figure, path)
    return parts


def _prose(text: str) -> list[str]:
    return [_line(paragraph) for paragraph in paragraphs(text)]


def _figure(figure: Figure, path: str) -> list[str]:
    caption = [f"*{_line(figure.caption)}*"] if figure.caption.strip() else []
    return [f"![{_line(figure.alt)}]({path})", *caption]


def markdown_table(table: Table) -> str:
    """A pipe table; what its cells hold is text."""
    rule = "|" + "---|" * len(table.header)
    return "\n".join([_row(table.header), rule, *(_row(row) for row in table.rows)])


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _line(text: str) -> str:
    return _OPENING.sub(r"\1\\\2", _escaped(text))


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
