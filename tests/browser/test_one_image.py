"""One image on the page: scores, map, prompt, problems."""

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.app.pictures import SVG, encoded
from tests.app.server import Running
from tests.browser.conftest import Visiting
from tests.browser.visit import Visit, hand_over, photograph, upload

if TYPE_CHECKING:
    from playwright.sync_api import Route

pytestmark = [pytest.mark.browser, pytest.mark.integration]


def gauge(visit: Visit, head: str) -> float:
    meter = visit.page.locator(f"#single .gauge[data-head={head}] [role=meter]")
    return float(meter.get_attribute("aria-valuenow") or "nan")


def answer_of(service: Running, file: Any, path: str = "/score", **form: str) -> dict[str, Any]:
    files = {"image": (file["name"], file["buffer"])}
    url = httpx.URL(path).copy_add_param("detail", "true")
    return service.client.post(url, files=files, data=form).json()


def test_a_chosen_image_gets_its_quality_scenes_and_distortions(
    visit: Visit, service: Running
) -> None:
    file = upload("photo.png")
    visit.choose(file)
    answer = answer_of(service, file)
    assert gauge(visit, "quality") == pytest.approx(answer["quality"], abs=0.006)
    shares = visit.page.locator("section[aria-label=Scene] .bar-name").all_text_contents()
    ranked = sorted(answer["scene"], key=answer["scene"].__getitem__, reverse=True)
    assert shares[:4] == ranked[:4]
    visit.page.get_by_text("How this score came about").click()
    facts = visit.text("#single .facts")
    assert answer["model"]["revision"] in facts
    assert "LIVE-Challenge" in facts


def test_the_map_tells_the_score_of_the_window_under_the_pointer(
    visit: Visit, service: Running
) -> None:
    file = upload("photo.png", size=(512, 384))
    visit.choose(file)
    windows = answer_of(service, file)["crop_scores"]
    stage = visit.page.locator("#single .stage")
    stage.hover(position={"x": 8, "y": 8})
    first = next(w["score"] for w in windows if w["box"][:2] == [0, 0])
    assert f"quality {first:.2f}" in visit.text("#single .readout")
    assert visit.text("#single .tag") == f"{first:.2f}"
    stage.focus()
    visit.page.keyboard.press("End")
    assert f"Window {len(windows)} of {len(windows)}" in visit.text("#single .readout")
    assert f"quality {windows[-1]['score']:.2f}" in visit.text("#single .readout")


def test_the_map_can_be_seen_through_and_turned_off(visit: Visit) -> None:
    visit.choose(upload("photo.png"))
    drawn = visit.page.locator("#single canvas.map")
    visit.page.get_by_role("slider", name="Opacity").fill("0.3")
    assert drawn.evaluate("map => map.style.opacity") == "0.3"
    visit.page.get_by_role("switch", name="Quality map").uncheck()
    assert drawn.is_hidden()


def test_the_windows_are_there_as_a_table(visit: Visit, service: Running) -> None:
    file = upload("photo.png")
    visit.choose(file)
    visit.page.locator("#single").get_by_text("Windows as a table").click()
    cells = visit.page.locator("#single tbody td:first-child")
    cells.first.wait_for()  # the table is filled after it has opened
    scores = sorted(window["score"] for window in answer_of(service, file)["crop_scores"])
    assert cells.all_text_contents() == [f"{score:.2f}" for score in scores]


def test_another_prompt_gives_another_consistency(visit: Visit, service: Running) -> None:
    visit.generated("a tray of sushi")
    file = upload("made.png", which=3)
    visit.choose(file)
    first = answer_of(service, file, "/score-agi", prompt="a tray of sushi")
    assert gauge(visit, "consistency") == pytest.approx(first["consistency"], abs=0.006)
    assert gauge(visit, "alignment") == pytest.approx(first["alignment"], abs=0.006)
    other = "portrait of an old alchemist, oil painting"
    visit.page.fill("#prompt", other)
    visit.page.get_by_role("button", name="Score again").click()
    visit.settle()
    assert visit.text("#single .asked q") == other
    second = answer_of(service, file, "/score-agi", prompt=other)
    assert gauge(visit, "consistency") == pytest.approx(second["consistency"], abs=0.006)
    assert first["consistency"] != second["consistency"]


def test_what_is_to_be_known_of_the_scores_stands_under_the_gauges(visit: Visit) -> None:
    def answer(route: "Route") -> None:
        fetched = route.fetch()
        route.fulfill(response=fetched, json={**fetched.json(), "detail": "No word is known."})

    visit.page.route("**/score-agi?*", answer)
    visit.generated("zqx")
    visit.choose(upload("made.png"))
    assert "No word is known." in visit.text("#single .scores")


def test_without_a_prompt_consistency_says_what_it_needs(visit: Visit) -> None:
    visit.generated()
    visit.choose(upload("made.png"))
    assert "Give the prompt" in visit.text("#single .gauge[data-head=consistency]")
    assert visit.page.locator("#single .gauge[data-head=consistency] [role=meter]").count() == 0


def test_another_model_can_be_chosen(visit: Visit, service: Running) -> None:
    visit.page.select_option("#model", "tiny-clip-agiqa")
    assert "AGIQA-3K" in visit.text("#about-model")
    file = upload("photo.png")
    visit.choose(file)
    answer = answer_of(service, file, "/score?model=tiny-clip-agiqa")
    assert gauge(visit, "quality") == pytest.approx(answer["quality"], abs=0.006)
    assert any("model=tiny-clip-agiqa" in request for request in visit.requests)


def test_a_refusal_is_told_in_the_words_of_the_service(visit: Visit, service: Running) -> None:
    visit.choose({"name": "drawing.svg", "mimeType": "image/svg+xml", "buffer": SVG})
    problem = service.client.post("/score", files={"image": ("drawing.svg", SVG)}).json()
    shown = visit.text("#single .problem")
    assert problem["detail"] in shown
    assert problem["code"] in shown
    assert "request" in shown
    assert visit.page.get_by_role("button", name="Try drawing.svg again").is_visible()


def test_a_pasted_image_is_scored(visit: Visit) -> None:
    hand_over(visit.page, "paste", [upload("image.png")])
    visit.settle()
    assert gauge(visit, "quality") > 0


def test_a_format_that_the_browser_cannot_show_is_scored(visit: Visit) -> None:
    visit.choose(upload("scan.tiff", form="TIFF", size=(512, 384)))
    assert gauge(visit, "quality") > 0
    visit.page.locator("#single .placeholder", has_text="show TIFF files").wait_for()
    box = visit.page.locator("#single .stage").bounding_box()
    assert box is not None
    assert box["width"] / box["height"] == pytest.approx(512 / 384, rel=0.02)


def test_the_map_of_a_turned_photograph_lies_over_it_as_it_is_shown(visit: Visit) -> None:
    image = photograph(0, (400, 260))
    exif = image.getexif()
    exif[0x0112] = 6
    content = encoded(image, "JPEG", exif=exif)
    visit.choose({"name": "turned.jpg", "mimeType": "image/jpeg", "buffer": content})
    size = "(map => `${map.width}x${map.height}`)(document.querySelector('#single canvas.map'))"
    visit.until(f"{size} === '260x400'")  # the browser decodes the picture beside the scoring
    box = visit.page.locator("#single .stage").bounding_box()
    assert box is not None
    assert box["width"] / box["height"] == pytest.approx(260 / 400, rel=0.02)


def test_the_examples_work(visiting: Visiting) -> None:
    visit = visiting().open()
    visit.page.get_by_role("button", name="Try a drawn example").click()
    visit.settle()
    assert gauge(visit, "quality") > 0
    visit.page.get_by_role("button", name="Clear").click()
    visit.page.get_by_role("button", name="spoiled").click()
    visit.settle()
    visit.page.get_by_label("Sort by").select_option("quality")
    assert len(visit.names()) == 8
    assert visit.names()[-1] == "original.png"


def test_an_example_shows_what_a_prompt_changes(visiting: Visiting) -> None:
    visit = visiting().open()
    visit.page.get_by_role("button", name="three prompts").click()
    visit.settle()
    visit.page.get_by_label("Sort by").select_option("consistency")
    assert visit.names() == ["other-prompt.webp", "near-prompt.webp", "own-prompt.webp"]
