"""Writes a report's files."""

from pathlib import Path

from model.store.files import write_atomically
from reporting.document import Document, figure_files
from reporting.html import to_html
from reporting.markdown import to_markdown

FIGURES = "figures"


def write(document: Document, folder: Path) -> None:
    """Writes ``report.md``, ``report.html`` and ``figures/`` into ``folder``, which is made if need
    be. Each file replaces its predecessor as a whole, the figures first: a report never names one
    that isn't there.
    """
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    for section, files in zip(document.sections, figure_files(document), strict=True):
        for figure, file in zip(section.figures, files, strict=True):
            write_atomically(folder / FIGURES / file, figure.image)
    write_atomically(folder / "report.md", to_markdown(document, FIGURES).encode())
    write_atomically(folder / "report.html", to_html(document).encode())
