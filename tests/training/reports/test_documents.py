"""Documents as HTML and as Markdown."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.training.reports.reported import report
from training.reports.document import Document, Figure, Section, Table, figure_files
from training.reports.evaluation import evaluation_sections
from training.reports.html import to_html
from training.reports.markdown import to_markdown
from training.reports.write import write

HOSTILE = '<script>alert("1")</script> | a*b* _c_ [d](e) \\ `f` "><img src=x>'
FIGURE = Figure("Some Plot", "A caption", b"<svg/>", "svg", "what it shows")


class Page(HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def document(text: str = "x", *figures: Figure) -> Document:
    table = Table((text, "n"), ((text, "1.5"), ("b", "-")), text)
    section = Section(text, text, (table,), figures, (text,))
    return Document(text, text, (section, Section("Last")), {text: text})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Document:
    sections = evaluation_sections(report(tmp_path_factory.mktemp("none")), data_set="AGIQA-3K")
    return Document("A report", "Of an evaluation.", tuple(sections), {"seed": "0"})


def test_the_html_loads_nothing_from_elsewhere_and_runs_nothing(whole: Document) -> None:
    text = to_html(whole)
    page = Page(text)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "action"):
            if name in attributes:
                assert attributes[name].startswith(("data:image/", "#")), attributes
        assert not any(name.startswith("on") for name in attributes)
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "prefers-color-scheme: dark" in style
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_text_is_text_in_the_html() -> None:
    page = Page(to_html(document(HOSTILE, Figure(HOSTILE, HOSTILE, b"x", "png", HOSTILE))))
    assert page.all("script") == []
    (image,) = page.all("img")
    assert image["alt"] == HOSTILE
    # title, heading, summary, contents, section, finding, text, caption, two cells, figcaption,
    # and a fact with its name
    assert page.words.count(HOSTILE) == 13


def test_every_figure_has_an_alt_text_and_a_caption_in_both_forms(whole: Document) -> None:
    figures = [figure for section in whole.sections for figure in section.figures]
    page = Page(to_html(whole))
    assert [image["alt"] for image in page.all("img")] == [figure.alt for figure in figures]
    assert len(page.all("figcaption")) == len(figures) > 4
    assert len(
        re.findall(r"^!\[.{10,}\]\(figures/[a-z-]+\.(?:svg|jpeg)\)$", to_markdown(whole), re.M)
    ) == len(figures)
    with pytest.raises(ValueError, match="alt text"):
        Figure("x", "", b"", "svg", " ")


def test_the_html_has_landmarks_headers_and_contents_that_lead_somewhere(whole: Document) -> None:
    page = Page(to_html(whole))
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(page.all(landmark)) == 1, landmark
    places = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(places) == len(set(places))
    links = [link["href"] for link in page.all("a")]
    assert {link.removeprefix("#") for link in links} <= set(places)
    assert len(links) == len(whole.sections) + 2  # the content, and the facts
    labels = {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a}
    assert labels <= set(places)
    assert all(cell.get("scope") in {"col", "row"} for cell in page.all("th"))
    assert len(page.all("caption")) == sum(len(s.tables) for s in whole.sections)


def test_columns_of_numbers_are_marked_and_columns_of_words_are_not() -> None:
    table = Table(("a", "b", "c"), (("1", "+0.5 (0.4 to 0.6)", "1"), ("2", "-", "sd")))
    page = Page(to_html(Document("x", "", (Section("x", tables=(table,)),))))
    assert [cell.get("class") for cell in page.all("th")[:3]] == [None, "number", None]


def test_hostile_text_breaks_no_table_in_markdown() -> None:
    text = to_markdown(document(HOSTILE, FIGURE))
    assert "\n| what | value |\n|---|---|\n" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == 7
    for line in tables:
        assert len(re.findall(r"(?<!\\)\|", line)) == 3, line
    assert not re.search(r"(?<!\\)<", text)
    assert not re.search(r"(?<!\\)\*b", text)


def test_file_names_stay_legible_in_markdown_and_lines_stay_paragraphs() -> None:
    text = to_markdown(Document("x", "sd1.5_normal_000.jpg\n\n- no item\n\n1. none\n\n# none", ()))
    assert text == "# x\n\nsd1.5_normal_000.jpg\n\n\\- no item\n\n1\\. none\n\n\\# none\n"


def test_a_row_that_does_not_fit_its_header_is_refused() -> None:
    with pytest.raises(ValueError, match="3 cells under 2"):
        Table(("a", "b"), (("1", "2", "3"),))


def test_figures_of_one_name_get_files_of_their_own() -> None:
    other = Figure("some/plot", "", b"2", "svg", "x")
    sections = (Section("a", figures=(FIGURE, other)), Section("b", figures=(FIGURE,)))
    files = figure_files(Document("x", "", sections))
    assert files == [["some-plot.svg", "some-plot-2.svg"], ["some-plot-3.svg"]]


def test_written_reports_name_figures_that_are_there(tmp_path: Path) -> None:
    hostile = Figure("../../up", "", b"png", "png", "x")
    folder = tmp_path / "new"
    write(document("x", FIGURE, hostile), folder)
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


def test_the_same_document_makes_the_same_bytes(whole: Document) -> None:
    assert to_html(whole) == to_html(whole)
