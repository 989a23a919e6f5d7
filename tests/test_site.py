"""The docs site: it builds, its links lead somewhere, and it asks no other host for anything."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import ROOT, anchors, links, pages

CONFIG = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]


def targets(entries: object) -> Iterator[str]:
    """All pages below an entry of the navigation."""
    if isinstance(entries, str):
        yield entries
    elif isinstance(entries, dict):
        for value in entries.values():
            yield from targets(value)
    elif isinstance(entries, list):
        for value in entries:
            yield from targets(value)


def test_every_page_is_in_the_navigation_once() -> None:
    found = sorted(str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md"))
    assert sorted(targets(CONFIG["nav"])) == found


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link} is no heading there"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, by what `make docs` runs."""
    folder = tmp_path_factory.mktemp("site")
    # A copy: through links the site would be built where they lead.
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", folder)
    done = subprocess.run(
        [Path(sys.executable).parent / "zensical", "build", "--strict"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": "docs"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / CONFIG["site_dir"]


def test_every_page_is_built(site: Path) -> None:
    for page in targets(CONFIG["nav"]):
        built = "index.html" if page == "index.md" else page.replace(".md", ".html")
        built = built.replace("README.html", "index.html")
        assert (site / built).is_file(), built


def test_equations_are_mathml_and_none_is_left_as_text(site: Path) -> None:
    text = (site / "methods.html").read_text()
    assert text.count("<math") > 10
    for left in ("$$", "arithmatex", "\\text", "\\frac", "\\cos"):
        assert left not in text


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium: apt-get install chromium")
def test_no_page_asks_another_host_or_fails_in_the_browser(site: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    asked: list[str] = []
    faults: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        for page in sorted(site.rglob("*.html")):
            tab.goto(page.as_uri())
        browser.close()
    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert faults == []
