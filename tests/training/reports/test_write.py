"""A report's files."""

import re
from pathlib import Path

from reporting.document import Document, Figure, Section
from tests.training.reports.reported import report
from training.reports.write import write
from training.research.documents.evaluation import evaluation_sections


def test_written_reports_name_figures_that_are_there(tmp_path: Path) -> None:
    plot = Figure("Some Plot", "A caption", b"<svg/>", "svg", "what it shows")
    hostile = Figure("../../up", "", b"png", "png", "x")
    folder = tmp_path / "new"
    write(Document("x", "", (Section("x", figures=(plot, hostile)),)), folder)
    text = (folder / "report.md").read_text()
    paths = re.findall(r"\]\((.*?)\)", text)
    assert [(folder / path).read_bytes() for path in paths] == [b"<svg/>", b"png"]
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "report.html",
        "report.md",
        "some-plot.svg",
        "up.png",
    ]


def test_the_same_evaluation_makes_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        sections = evaluation_sections(report(tmp_path / "none"), data_set="AGIQA-3K")
        write(Document("A report", "", tuple(sections), {"seed": "0"}), folder)
    first, second = (sorted(f for f in folder.rglob("*") if f.is_file()) for folder in folders)
    assert len(first) == len(second) > 5
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
