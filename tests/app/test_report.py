"""The report of ``agiqa score``: one file, safe with hostile names, small for many images."""

import base64
import io
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.offline.report import TILES, render, thumbnail, write_report
from app.offline.rows import Item, Row, failed, scored
from tests.app.pictures import SVG, encoded, picture
from tests.app.scored import MODEL, Pretended

HOSTILE = "<img src=x onerror=alert(1)>\"'&.png"
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
ATTRIBUTES_THAT_LOAD = {"src", "srcset", "data", "action", "poster", "background"}


class Tags(HTMLParser):
    """What stands in a page: its tags with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def pretended(count: int, prompt: str | None = "a cat") -> list[Row]:
    return list(Pretended().score([Item(Path(f"in/{n:05}.png"), prompt) for n in range(count)]))


def page(rows: list[Row], **options: Any) -> str:
    return render(MODEL, rows, {}, Path("/work"), now=NOW, **options)


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
    tags = Tags(text)
    assert len(tags.of("script")) == 1
    assert not [name for name, attributes in tags.tags if "onerror" in attributes]
    assert {name for name, _ in tags.tags} & {"b", "i"} <= {"b"}
    assert "{{ 7 * 7 }}<i>x</i>" in tags.text
    assert HOSTILE in tags.text
    assert "</script><script>alert(2)</script>" in tags.text


def test_nothing_is_loaded_from_elsewhere(hostile: tuple[Path, str]) -> None:
    folder, text = hostile
    tags = Tags(text)
    assert not {name for name, _ in tags.tags} & {"link", "iframe", "object", "embed", "base"}
    for _, attributes in tags.tags:
        for name in ATTRIBUTES_THAT_LOAD & attributes.keys():
            assert (attributes[name] or "").startswith("data:image/jpeg;base64,")
    links = [a["href"] or "" for a in tags.of("a")]
    assert all(re.fullmatch(r"#\w+|[\w/.%-]+", link) for link in links), links
    assert "url(" not in text
    assert str(folder) not in " ".join(links)


def test_the_policy_lets_run_what_is_inside_and_nothing_else(hostile: tuple[Path, str]) -> None:
    _, text = hostile
    policy = next(m["content"] or "" for m in Tags(text).of("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert " style=" not in text


def test_figures_sheets_and_table_tell_of_all_rows() -> None:
    rows = pretended(40)
    tags = Tags(page(rows))
    mean = sum(row["quality"] for row in rows) / len(rows)
    assert f"{mean:.3f}" in tags.text
    assert [h for h in ("Lowest quality", "Highest quality", "From low to high") if h in tags.text]
    assert tags.text.count("the file can't be shown") == 4 * TILES
    assert tags.text.count("in/00007.png") == 1, "its row of the table"
    assert "0.500 (0.400 to 0.600)" in tags.text
    assert "opinions of 7 images" in tags.text
    assert "2026-01-02" in tags.text


def test_sheets_hold_the_extremes_in_their_order() -> None:
    rows = sorted(pretended(40), key=lambda row: row["quality"])
    text = page(rows[::-1])
    lowest = text[text.index("Lowest quality") : text.index("Highest quality")]
    highest = text[text.index("Highest quality") : text.index("From low to high")]
    for section, expected in ((lowest, rows[:TILES]), (highest, rows[::-1][:TILES])):
        shown = re.findall(r'<div class="name" title="([^"]+)">', section)
        assert shown == [row["path"] for row in expected]


def test_few_images_are_shown_once() -> None:
    text = page(pretended(3, prompt=None))
    assert "Highest quality" not in text
    assert "Quality and consistency" not in text
    assert text.count('class="frame"') == 3


def test_no_scores_at_all_still_make_a_report() -> None:
    rows = [failed(Item(Path(f"{n}.png")), MODEL, "unreadable_image", "Broken.") for n in range(60)]
    text = Tags(page(rows)).text
    assert "could not be scored" in text
    assert "And 10 more." in text
    assert "How the scores lie" not in text


def test_thousands_of_rows_stay_a_few_megabytes() -> None:
    text = page(pretended(6000), table=Path("far/scores.csv"))
    assert len(text) < 3_000_000
    assert text.count("<tr><th") <= 5000 + 10
    assert "1,000 more stand in <code>scores.csv</code>" in text
    assert "3,000 of 6,000 images are drawn" in text


def test_thumbnails_are_upright_and_small(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    (tmp_path / "turned.jpg").write_bytes(encoded(picture(800, 400), "JPEG", exif=exif))
    address = thumbnail(tmp_path / "turned.jpg") or ""
    small = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
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
    asked: list[str] = []
    tab = browser.new_page(color_scheme=scheme, viewport={"width": 400, "height": 800})
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url.partition(":")[0]))
    tab.goto((tmp_path / "report.html").as_uri())
    assert tab.evaluate("document.querySelector('.frame img').naturalWidth") == 200
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    assert complaints == []
    assert set(asked) <= {"file", "data"}
    tab.close()


@pytest.mark.browser
def test_the_table_sorts_and_finds(browser: Any, tmp_path: Path) -> None:
    rows = pretended(30)
    rows.append(failed(Item(Path("in/bad.png")), MODEL, "unreadable_image", "Broken."))
    write_report(tmp_path / "report.html", MODEL, rows, {})
    tab = browser.new_page()
    tab.goto((tmp_path / "report.html").as_uri())

    def qualities() -> list[str]:
        texts: list[str] = tab.locator("#images tbody tr td:nth-child(2)").all_text_contents()
        return texts

    best_first = sorted((f"{row['quality']:.3f}" for row in rows[:-1]), reverse=True)
    assert qualities() == [*best_first[::-1], ""]
    tab.get_by_role("button", name="quality").click()
    assert qualities() == [*best_first, ""], "what has no score stands last either way"
    tab.get_by_role("button", name="path").click()
    assert tab.locator("#images tbody th").first.text_content() == "in/00000.png"
    tab.get_by_label("Find").fill("UNREADABLE")
    assert tab.locator("#images tbody tr:visible").count() == 1
    assert tab.locator("#shown").text_content() == "1 of 31 rows"
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
