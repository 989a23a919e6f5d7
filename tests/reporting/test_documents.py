"""Documents as HTML and as Markdown."""

import re
import sys

import pytest

from reporting import charts
from reporting.document import (
    Document,
    Figure,
    KeyFigure,
    Section,
    Table,
    Tile,
    figure_files,
)
from reporting.errors import ReportingError
from reporting.html import to_html
from reporting.markdown import to_markdown
from tests.reporting.pages import Page

HOSTILE = '<script>alert("1")</script> | a*b* _c_ [d](e) \\ `f` "><img src=x>'
FIGURE = Figure("Some Plot", "A caption", b"<svg/>", "svg", "what it shows")


def document(text: str = "x", *figures: Figure) -> Document:
    """One of everything, all of whose words are ``text``."""
    table = Table((text, "n"), ((text, "1.5"), ("b", "-")), text)
    folded = Table((text, "n"), ((text, "1"),), text, prose=("n",), total=3)
    sortable = Table((text, "n"), ((text, "1"),), text, sortable=True, sorted_by="n")
    chart = charts.histogram((0, 1), 0.5)
    inline = Figure(text, text, chart, "svg", text, title=text, values={text: text}, inline=True)
    tiles = (Tile(text, text, "a.png", b"jpeg", 0.5, text, text), Tile(text, text, None, None, 1))
    sections = (
        Section(text, text, (table, folded, sortable), figures, (text,), {text: text}, tiles),
        Section("Last", figures=(inline,)),
    )
    return Document(text, text, sections, {text: text}, (KeyFigure(text, text, bad=True),))


@pytest.mark.parametrize("text", ["plain", HOSTILE], ids=["plain", "hostile"])
def test_the_html_loads_nothing_from_elsewhere_and_runs_only_its_own_script(text: str) -> None:
    written = to_html(document(text, FIGURE))
    page = Page(written)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "action"):
            if name in attributes:
                assert re.match(r"data:image/|#|a\.png$", attributes[name]), attributes
        assert not any(name.startswith("on") for name in attributes)
        assert "style" not in attributes
    assert page.all("link") == page.all("iframe") == []
    assert len(page.all("script")) == 1
    style = written.partition("<style>")[2].partition("</style>")[0]
    assert "prefers-color-scheme: dark" in style
    assert "url(" not in style
    assert "@import" not in style
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_a_page_without_a_sortable_table_has_no_script() -> None:
    text = to_html(Document("x", "", (Section("x", tables=(Table(("a",), ()),)),)))
    assert Page(text).all("script") == []
    assert "script-src" not in text


def test_hostile_text_is_text_in_the_html() -> None:
    page = Page(to_html(document(HOSTILE, Figure(HOSTILE, HOSTILE, b"x", "png", HOSTILE))))
    assert len(page.all("script")) == 1
    assert [image["alt"] for image in page.all("img")] == [HOSTILE, HOSTILE]
    # title, heading, summary; key figure (2), contents, section, finding, text, facts (2 x 2);
    # three tables' caption, heading and cell, though a sortable table without a fold shows its
    # caption as the others do; figcaption; of the chart its title, caption and value (2); of the
    # tiles the name, score beside and note, and the name twice where nothing can be shown
    assert page.text.count(HOSTILE) == 3 + 2 + 4 + 4 + 9 + 1 + 4 + 5


def test_every_figure_has_an_alt_text_and_a_caption_in_both_forms() -> None:
    written = document("words", FIGURE)
    page = Page(to_html(written))
    assert [image["alt"] for image in page.all("img")] == ["what it shows", "words"]
    assert [a["aria-label"] for a in page.all("div") if a.get("role") == "img"] == ["words"]
    assert len(page.all("figcaption")) == 2
    images = re.findall(r"^!\[(.+)\]\(figures/(.+)\)$", to_markdown(written), re.M)
    assert images == [("what it shows", "some-plot.svg"), ("words", "words.svg")]
    with pytest.raises(ValueError, match="alt text"):
        Figure("x", "", b"", "svg", " ")


def test_the_html_has_landmarks_headers_and_contents_that_lead_somewhere() -> None:
    page = Page(to_html(document()))
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(page.all(landmark)) == 1, landmark
    places = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(places) == len(set(places))
    links = [link["href"] for link in page.all("a") if link["href"] != "a.png"]
    assert {link.removeprefix("#") for link in links} <= set(places)
    assert len(links) == 2 + 2  # the sections; the content, and the facts
    labels = {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a}
    assert labels <= set(places)
    assert all(cell.get("scope") in {"col", "row"} for cell in page.all("th"))
    assert len(page.all("caption")) == 2
    assert len(page.all("summary")) == 1


def test_columns_of_numbers_are_marked_and_columns_of_words_are_not() -> None:
    rows = (("1", "+0.5 (0.4 to 0.6)", "1", "1 dog"), ("2", "-", "sd", "2 dogs"))
    table = Table(("a", "b", "c", "d"), rows, prose=("d",))
    page = Page(to_html(Document("x", "", (Section("x", tables=(table,)),))))
    assert [cell.get("class") for cell in page.all("th")[:4]] == [None, "number", None, "text"]


def test_rows_that_are_left_out_are_counted() -> None:
    assert "And 2 more." in Page(to_html(document())).text


def test_hostile_text_breaks_nothing_in_markdown() -> None:
    text = to_markdown(document(HOSTILE, FIGURE))
    assert "\n| what | value |\n|---|---|\n" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == 4 + 3 + 3 + 3
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


def test_without_jinja_the_error_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ReportingError, match=r"pip install 'agiqa\[score\]'"):
        to_html(Document("x", "", ()))
    assert to_markdown(Document("x", "", ())) == "# x\n"
