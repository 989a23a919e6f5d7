"""The report of ``agiqa score``: one file, safe with hostile names, small for many images."""

import io
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.bulk.report import TILES, Gallery, report_document, thumbnail, write_report
from app.bulk.rows import Item, Row, failed, scored
from reporting.html import to_html
from tests.app.bulk.scored import MODEL, Pretended, agiqa
from tests.app.pictures import SVG, encoded, picture
from tests.reporting.pages import Page

HOSTILE = "<img src=x onerror=alert(1)>\"'&.png"
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
ATTRIBUTES_THAT_LOAD = {"src", "srcset", "data", "action", "poster", "background"}


def pretended(count: int, prompt: str | None = "a cat") -> list[Row]:
    return list(Pretended().score([Item(Path(f"in/{n:05}.png"), prompt) for n in range(count)]))


def page(rows: list[Row], **options: Any) -> str:
    gallery = Gallery({}, Path("/work"))
    return to_html(report_document(MODEL, rows, gallery, now=NOW, **options))


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Path, str]:
    """A report of an image and a failure with hostile names, prompts and messages."""
    (tmp_path / HOSTILE).write_bytes(encoded())
    item = Item(tmp_path / HOSTILE, "</script><script>alert(2)</script>")
    bad = failed(Item(tmp_path / f"bad{HOSTILE}"), MODEL, "<b>code</b>", "{{ 7 * 7 }}<i>x</i>")
    rows = [scored(item, MODEL, {"quality": 0.5, "consistency": 0.25, "crops": 4}), bad]
    report = tmp_path / "report.html"
    write_report(report, MODEL, rows, {})
    return tmp_path, report.read_text()


def test_whatever_comes_from_outside_is_text(hostile: tuple[Path, str]) -> None:
    _, text = hostile
    parsed = Page(text)
    assert len(parsed.all("script")) == 1
    assert not [name for name, attributes in parsed.elements if "onerror" in attributes]
    assert {name for name, _ in parsed.elements} & {"b", "i"} <= {"b"}
    assert "{{ 7 * 7 }}<i>x</i>" in parsed.text
    assert HOSTILE in parsed.text
    assert "</script><script>alert(2)</script>" in parsed.text


def test_nothing_is_loaded_from_elsewhere(hostile: tuple[Path, str]) -> None:
    folder, text = hostile
    parsed = Page(text)
    assert not {name for name, _ in parsed.elements} & {"link", "iframe", "object", "embed", "base"}
    for _, attributes in parsed.elements:
        for name in ATTRIBUTES_THAT_LOAD & attributes.keys():
            assert attributes[name].startswith("data:image/jpeg;base64,")
    links = [a["href"] for a in parsed.all("a")]
    assert all(re.fullmatch(r"#[\w-]+|[\w/.%-]+", link) for link in links), links
    assert "url(" not in text
    assert str(folder) not in " ".join(links)


def test_figures_sheets_and_table_tell_of_all_rows() -> None:
    rows = pretended(40)
    parsed = Page(page(rows))
    mean = sum(row["quality"] for row in rows) / len(rows)
    assert f"{mean:.3f}" in parsed.text
    assert [
        h for h in ("Lowest quality", "Highest quality", "From low to high") if h in parsed.text
    ]
    assert parsed.text.count("the file can't be shown") == 4 * TILES
    assert parsed.text.count("in/00007.png") == 1, "its row of the table"
    assert "0.500 (0.400 to 0.600)" in parsed.text
    assert "opinions of 7 images" in parsed.text
    assert "2026-01-02" in parsed.text


def test_sheets_hold_the_extremes_in_their_order() -> None:
    rows = sorted(pretended(40), key=lambda row: row["quality"])
    text = page(rows[::-1])
    lowest = text[text.index("Lowest quality</h2>") : text.index("Highest quality</h2>")]
    highest = text[text.index("Highest quality</h2>") : text.index("From low to high</h2>")]
    for section, expected in ((lowest, rows[:TILES]), (highest, rows[::-1][:TILES])):
        shown = re.findall(r'<div class="name" title="([^"]+)">', section)
        assert shown == [row["path"] for row in expected]


def test_few_images_are_shown_once() -> None:
    text = page(pretended(3, prompt=None))
    assert "Highest quality" not in text
    assert "Quality and consistency" not in text
    assert text.count('class="frame"') == 3


@pytest.mark.parametrize("prompt", ["a cat", None])
def test_how_often_the_own_prompt_wins_is_told_beside_consistency_alone(prompt: str | None) -> None:
    figures = {**MODEL.figures, "own_prompt_beats_another": 0.724}
    gallery, model = Gallery({}, Path("/work")), replace(MODEL, figures=figures)
    text = to_html(report_document(model, pretended(3, prompt), gallery, now=NOW))
    assert ("in 72% of pairs; chance is 50%" in text) == (prompt is not None)


def test_no_scores_at_all_still_make_a_report() -> None:
    rows = [failed(Item(Path(f"{n}.png")), MODEL, "unreadable_image", "Broken.") for n in range(60)]
    text = Page(page(rows)).text
    assert "could not be scored" in text
    assert "And 10 more." in text
    assert "How the scores lie" not in text


def test_thousands_of_rows_stay_a_few_megabytes() -> None:
    text = page(pretended(6000), table=Path("far/scores.csv"))
    assert len(text) < 3_000_000
    assert text.count("<tr><th") <= 5000 + 10
    assert "1,000 more stand in scores.csv" in text
    assert "3,000 of 6,000 images are drawn" in text


def test_a_report_that_cannot_be_written_stops_the_run_before_it_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    (tmp_path / "a.png").write_bytes(encoded())
    out = tmp_path / "scores.csv"
    done = agiqa("score", tmp_path, "-o", out, "--report", tmp_path / "report.html")
    assert done.exit_code == 1
    assert "pip install 'agiqa[score]'" in done.stderr
    assert not out.exists()


def test_thumbnails_are_upright_and_small(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    (tmp_path / "turned.jpg").write_bytes(encoded(picture(800, 400), "JPEG", exif=exif))
    small = Image.open(io.BytesIO(thumbnail(tmp_path / "turned.jpg") or b""))
    assert small.size == (100, 200)
    (tmp_path / "drawing.svg").write_bytes(SVG)
    assert thumbnail(tmp_path / "drawing.svg") is None
    assert thumbnail(tmp_path / "gone.png") is None


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_and_complains_of_nothing(
    browser: Any, tmp_path: Path, scheme: str
) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    shown = scored(Item(tmp_path / "a.png", "a cat"), MODEL, {"quality": 0.01, "crops": 1})
    write_report(tmp_path / "report.html", MODEL, [*pretended(30), shown], {})
    complaints: list[str] = []
    requests: list[str] = []
    tab = browser.new_page(color_scheme=scheme, viewport={"width": 400, "height": 800})
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url.partition(":")[0]))
    tab.goto((tmp_path / "report.html").as_uri())
    assert tab.evaluate("document.querySelector('.frame img').naturalWidth") == 200
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    assert complaints == []
    assert set(requests) <= {"file", "data"}
    tab.close()


@pytest.mark.browser
def test_the_table_sorts_and_finds(browser: Any, tmp_path: Path) -> None:
    rows = pretended(30)
    rows.append(failed(Item(Path("in/bad.png")), MODEL, "unreadable_image", "Broken."))
    write_report(tmp_path / "report.html", MODEL, rows, {})
    tab = browser.new_page()
    tab.goto((tmp_path / "report.html").as_uri())

    def qualities() -> list[str]:
        texts: list[str] = tab.locator(".sortable tbody tr td:nth-child(2)").all_text_contents()
        return texts

    best_first = sorted((f"{row['quality']:.3f}" for row in rows[:-1]), reverse=True)
    assert qualities() == [*best_first[::-1], ""]
    tab.get_by_role("button", name="quality").click()
    assert qualities() == [*best_first, ""], "what has no score stands last either way"
    tab.get_by_role("button", name="path").click()
    assert tab.locator(".sortable tbody th").first.text_content() == "in/00000.png"
    tab.get_by_role("searchbox", name="Find").fill("UNREADABLE")
    assert tab.locator(".sortable tbody tr:visible").count() == 1
    assert tab.locator(".find [role=status]").text_content() == "1 of 31 rows"
    tab.close()


@pytest.mark.browser
def test_it_is_accessible(browser: Any, tmp_path: Path) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python"
    )
    (tmp_path / "a.png").write_bytes(encoded())
    rows = pretended(30)
    rows.append(failed(Item(tmp_path / "a.png"), MODEL, "unreadable_image", "Broken."))
    write_report(tmp_path / "report.html", MODEL, rows, {})
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, bypass_csp=True)
        tab = context.new_page()
        tab.goto((tmp_path / "report.html").as_uri())
        found = axe.Axe().run(tab).response["violations"]
        assert [(v["id"], [n["html"] for n in v["nodes"]][:2]) for v in found] == []
        context.close()
