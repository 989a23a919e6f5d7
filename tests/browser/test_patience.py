"""What the page does while the service is busy, loading, guarded, or not to be reached."""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.app.server import Running, serving
from tests.browser.conftest import Visiting
from tests.browser.visit import Visit, upload

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

pytestmark = [pytest.mark.browser, pytest.mark.integration]

SCORES = "**/score?*"


def refusing(
    times: int, status: int, code: str, wait: int = 1
) -> tuple[list[str], Callable[["Route"], None]]:
    """A handler that refuses so often, asking for ``wait`` seconds, then lets requests through; and
    the addresses it saw.
    """
    seen: list[str] = []

    def handle(route: "Route") -> None:
        seen.append(route.request.url)
        if len(seen) > times:
            route.continue_()
            return
        problem = {"code": code, "detail": f"The words of {code}.", "status": status}
        route.fulfill(
            status=status,
            headers={"Retry-After": str(wait), "Content-Type": "application/problem+json"},
            body=json.dumps(problem),
        )

    return seen, handle


@pytest.mark.parametrize(("status", "code"), [(429, "overloaded"), (503, "worker_down")])
def test_a_busy_service_is_asked_again_after_the_time_that_it_gives(
    visit: Visit, status: int, code: str
) -> None:
    seen, handle = refusing(1, status, code, wait=3)
    visit.page.route(SCORES, handle)
    visit.choose(upload("a.png"), wait=False)
    visit.page.get_by_text("the service is busy").wait_for()
    visit.settle()
    assert len(seen) == 2
    assert visit.page.locator("#single [role=meter]").count() == 1


def test_a_refusal_that_is_final_is_not_repeated(visit: Visit) -> None:
    seen, handle = refusing(9, 413, "too_large")
    visit.page.route(SCORES, handle)
    visit.choose(upload("a.png"))
    assert "The words of too_large." in visit.text("#single .problem")
    assert len(seen) == 1


def test_a_loading_service_is_told_and_scoring_goes_on_when_it_is_ready(visiting: Visiting) -> None:
    visit = visiting()
    seen, handle = refusing(1, 503, "loading", wait=4)
    visit.page.route("**/models", handle)
    visit.page.goto(visit.url)
    visit.page.get_by_text("The words of loading.").wait_for()
    assert visit.text("#service-text") == "Loading the models"
    visit.choose(upload("a.png"))
    assert visit.text("#service-text") == "Ready"
    assert visit.page.locator("#single [role=meter]").count() == 1
    assert len(seen) == 2


def test_no_more_than_four_requests_are_on_their_way_and_cancel_gives_them_up(visit: Visit) -> None:
    held: list[Route] = []
    gone: list[str] = []
    visit.page.on("requestfailed", lambda request: gone.append(request.url))
    visit.page.route(SCORES, lambda route: held.append(route))
    visit.choose(*(upload(f"{i}.png", i) for i in range(9)), wait=False)
    visit.until(lambda: len(held) == 4)
    visit.page.get_by_role("button", name="Cancel").click()
    visit.settle()
    assert len(held) == 4
    visit.until(lambda: len(gone) == 4)
    assert visit.page.get_by_text("Not scored: cancelled.").count() == 9
    visit.page.unroute(SCORES)
    visit.page.get_by_role("button", name="Try 9 images again").click()
    visit.settle()
    assert "Quality of 9 images" in visit.text(".spread")


def test_a_failed_image_keeps_its_place_and_can_be_tried_again(visit: Visit) -> None:
    _, handle = refusing(1, 500, "inference_failed")
    visit.page.route("**/score?*", handle)
    visit.choose(upload("a.png"), upload("b.png", 2))
    assert visit.names() == ["a.png", "b.png"]
    assert "1 not" in visit.text("#progress-text")
    visit.page.locator(".card .problem button").click()
    visit.settle()
    assert "Quality of 2 images" in visit.text(".spread")


def test_a_service_that_cannot_be_reached_is_told(visit: Visit) -> None:
    visit.page.route(SCORES, lambda route: route.abort())
    visit.choose(upload("a.png"))
    assert "No answer came" in visit.text("#single .problem")


@pytest.fixture(scope="module")
def guarded(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = {"AGIQA_API_KEYS": "the-right-one"}
    with serving(tmp_path_factory.mktemp("guarded"), keys) as running:
        yield running


def test_a_guarded_service_asks_for_its_key_until_it_is_the_right_one(
    visiting: Visiting, guarded: Running
) -> None:
    visit = visiting(guarded.url)
    visit.page.goto(visit.url)
    dialog = visit.page.get_by_role("dialog", name="This service asks for an API key")
    visit.page.get_by_label("API key", exact=True).fill("a wrong one")
    dialog.get_by_role("button", name="Use this key").click()
    visit.page.get_by_text("Send a valid API key").wait_for()
    visit.page.get_by_label("API key", exact=True).fill("the-right-one")
    visit.page.keyboard.press("Enter")
    visit.page.locator("#service[data-state=ready]").wait_for()
    visit.choose(upload("a.png"))
    assert visit.page.locator("#single [role=meter]").count() == 1
    visit.page.reload()
    visit.page.locator("#service[data-state=ready]").wait_for()


def test_without_a_key_the_page_says_so_and_offers_to_take_one(
    visiting: Visiting, guarded: Running
) -> None:
    visit = visiting(guarded.url)
    visit.page.goto(visit.url)
    visit.page.get_by_role("button", name="Not now").click()
    assert visit.text("#service-text") == "API key needed"
    visit.page.get_by_role("button", name="Enter a key").click()
    dialog = visit.page.locator("#key")
    dialog.wait_for()  # the service is asked once more before
    assert dialog.is_visible()
