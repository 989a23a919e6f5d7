"""The page for everybody: keyboard, screen reader, dark, small screens, no other host."""

import pytest

from tests.app.server import Running
from tests.browser.conftest import Visiting
from tests.browser.visit import Visit, payload, upload

pytestmark = [pytest.mark.browser, pytest.mark.integration]


def fill(visit: Visit, state: str) -> None:
    """Brings the page into a state: empty, one, gallery, dialog or problem."""
    if state == "one":
        visit.generated("a tray of sushi")
        visit.choose(upload("a.png"))
    elif state in {"gallery", "dialog"}:
        broken = payload("x.svg", "image/svg+xml", b"<svg/>")
        visit.choose(upload("a.png"), upload("b.png", 2), broken)
    if state == "dialog":
        visit.page.locator(".card .open").first.click()
    if state in {"one", "dialog"}:
        visit.page.locator("details:visible summary").first.click()


STATES = ["empty", "one", "gallery", "dialog"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing_serious(visiting: Visiting, state: str, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="needs axe: pip install axe-playwright-python",
    )
    # The policy of the page keeps out the script of axe as well.
    visit = visiting(bypass_csp=True, color_scheme=scheme, reduced_motion="reduce").open()
    fill(visit, state)
    assert visit.violations(axe.Axe()) == []


@pytest.mark.parametrize("state", STATES)
def test_a_phone_shows_every_state_without_scrolling_sideways(
    visiting: Visiting, state: str
) -> None:
    visit = visiting(viewport={"width": 360, "height": 740}, has_touch=True).open()
    fill(visit, state)
    scrolled = "[document.documentElement, document.getElementById('viewer-body')]"
    wider = visit.page.evaluate(f"{scrolled}.filter(e => e.scrollWidth > e.clientWidth).length")
    assert wider == 0


def test_everything_can_be_done_with_the_keyboard(visit: Visit) -> None:
    page, choosers = visit.page, visit.file_choosers()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    visit.tab_to("#choose")
    page.keyboard.press("Enter")
    visit.until(lambda: choosers)
    choosers[0].set_files([upload("a.png"), upload("b.png", 2)])
    visit.settle()
    visit.tab_to(".bin")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.ariaLabel") == "Quality 0.95 to 1.00: 0 images"
    visit.tab_to(".card .open")
    page.keyboard.press("Enter")
    page.locator("#viewer").wait_for()
    visit.tab_to("#viewer .stage")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "Window 2 of" in visit.text("#viewer .readout")
    page.keyboard.press("Escape")
    visit.until("document.activeElement.matches('.card .open')")
    assert page.locator("#viewer").is_hidden()


def test_the_focus_can_be_seen(visit: Visit) -> None:
    visit.tab_to("#choose")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert visit.page.evaluate(outline) == "solid"


def test_screen_readers_hear_of_the_beginning_and_the_end(visit: Visit) -> None:
    visit.page.evaluate(
        """() => { window.heard = [];
          new MutationObserver(() => window.heard.push(document.getElementById('live').textContent))
            .observe(document.getElementById('live'), {childList: true}); }"""
    )
    visit.choose(upload("a.png"), upload("b.png", 2))
    visit.until("window.heard.includes('2 images scored.')")
    assert "2 images added." in visit.page.evaluate("window.heard")


def background(visit: Visit) -> int:
    colour = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


def test_the_page_is_dark_where_the_system_is(visiting: Visiting) -> None:
    assert background(visiting(color_scheme="dark").open()) < 150
    assert background(visiting(color_scheme="light").open()) > 600


def test_the_colours_can_be_chosen_and_stay_so(visiting: Visiting) -> None:
    visit = visiting(color_scheme="light").open()
    for _ in range(2):
        visit.page.get_by_role("button", name="Colours").click()
    assert background(visit) < 150
    visit.page.reload()
    assert background(visit) < 150
    assert visit.page.get_by_role("button", name="Colours: dark").is_visible()


def test_nothing_moves_for_those_who_asked_for_that(visiting: Visiting) -> None:
    visit = visiting(reduced_motion="reduce").open()
    visit.choose(upload("a.png"))
    moving = visit.page.evaluate("document.getAnimations().length")
    assert moving == 0


def test_the_api_page_is_drawn_without_another_host(visiting: Visiting, service: Running) -> None:
    visit = visiting().open("/docs")
    visit.page.locator(".opblock-summary-path", has_text="/score-agi").first.wait_for()
    visit.page.locator(".opblock-summary", has_text="What is loaded").click()
    visit.page.get_by_role("button", name="Try it out").click()
    visit.page.get_by_role("button", name="Execute").click()
    visit.page.locator(".responses-table .microlight", has_text="tiny-mpiqe").first.wait_for()
    assert f"{service.url}/models" in visit.requests
