"""Many images on the page: order, filters, prompts, table, dialog."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.app.pictures import SVG
from tests.app.server import Running
from tests.browser.visit import Visit, hand_over, payload, upload

pytestmark = [pytest.mark.browser, pytest.mark.integration]

FILES = [upload("b.png", 0), upload("a.png", 1), upload("c.png", 2)]
BROKEN = payload("drawing.svg", "image/svg+xml", SVG)


def scores(service: Running, path: str = "/score", **form: str) -> dict[str, dict[str, Any]]:
    return {
        file["name"]: service.client.post(
            path, files={"image": (file["name"], file["buffer"])}, data=form
        ).json()
        for file in FILES
    }


def downloaded(visit: Visit) -> list[dict[str, str]]:
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Download CSV").click()
    return list(csv.DictReader(io.StringIO(download.value.path().read_text())))


def test_images_are_sorted_by_name_and_by_score_either_way(visit: Visit, service: Running) -> None:
    visit.choose(*FILES)
    answers = scores(service)
    assert visit.names() == ["b.png", "a.png", "c.png"]
    visit.page.get_by_label("Sort by").select_option("name")
    assert visit.names() == ["a.png", "b.png", "c.png"]
    visit.page.get_by_label("Sort by").select_option("quality")
    ranked = sorted(answers, key=lambda name: answers[name]["quality"])
    assert visit.names() == ranked
    visit.page.get_by_role("button", name="Ascending").click()
    assert visit.names() == ranked[::-1]


def test_images_are_found_by_name_and_by_state(visit: Visit) -> None:
    visit.choose(*FILES, BROKEN)
    visit.page.get_by_label("Find").fill("b.P")
    assert visit.names() == ["b.png"]
    visit.page.get_by_label("Find").fill("")
    visit.page.get_by_label("Show").select_option("failed")
    assert visit.names() == ["drawing.svg"]
    assert "send one of" in visit.text(".card .problem")


def test_a_bar_of_the_histogram_filters_and_its_chip_ends_that(
    visit: Visit, service: Running
) -> None:
    visit.choose(*FILES)
    quality = scores(service)["a.png"]["quality"]
    wanted = {n for n, s in scores(service).items() if int(s["quality"] * 20) == int(quality * 20)}
    visit.page.locator(".bin").nth(int(quality * 20)).click()
    assert set(visit.names()) == wanted
    assert len(wanted) < len(FILES)
    assert f"of {len(wanted)}" in visit.text(".toolbar")
    visit.page.locator(".chip").click()
    assert len(visit.names()) == len(FILES)


def test_the_table_has_the_columns_of_agiqa_score_and_the_scores_of_the_api(
    visit: Visit, service: Running
) -> None:
    visit.generated("a tray of sushi")
    visit.choose(*FILES, BROKEN)
    rows = {row["path"]: row for row in downloaded(visit)}
    assert list(rows) == ["b.png", "a.png", "c.png", "drawing.svg"]
    first = ["path", "quality", "alignment", "consistency", "code", "detail"]
    assert list(rows["a.png"])[:6] == first
    for name, answer in scores(service, "/score-agi", prompt="a tray of sushi").items():
        for head in ("quality", "alignment", "consistency", "mos"):
            assert float(rows[name][head]) == pytest.approx(answer[head], abs=2e-4)
        assert rows[name]["model"] == "tiny-clip-agiqa"
        assert rows[name]["prompt"] == "a tray of sushi"
        assert rows[name]["code"] == ""
    assert rows["drawing.svg"]["code"] == "unsupported_image"
    assert rows["drawing.svg"]["detail"].startswith("This is no image")
    assert rows["drawing.svg"]["quality"] == ""


def test_a_name_that_a_spreadsheet_would_run_is_made_text(visit: Visit) -> None:
    visit.choose(upload('=1+2,"x".png'), upload("b.png"))
    assert [row["path"] for row in downloaded(visit)] == ['\'=1+2,"x".png', "b.png"]


def test_a_csv_beside_the_images_gives_each_its_prompt(visit: Visit, service: Running) -> None:
    table = 'image,prompt\nsome/folder/a.png,"a tray, of ""sushi"""\nb.png,a red fox\n'
    prompts = payload("prompts.csv", "text/csv", table.encode())
    hand_over(visit.page, "drop", [*FILES, prompts])
    visit.settle()
    rows = {row["path"]: row for row in downloaded(visit)}
    given = {name: row["prompt"] for name, row in rows.items()}
    assert given == {"a.png": 'a tray, of "sushi"', "b.png": "a red fox", "c.png": ""}
    answers = scores(service, "/score-agi", prompt="a red fox")
    assert float(rows["b.png"]["consistency"]) == pytest.approx(
        answers["b.png"]["consistency"], abs=2e-4
    )
    assert rows["c.png"]["consistency"] == ""


def test_a_folder_is_dropped_with_all_that_is_below_it(visit: Visit, tmp_path: Path) -> None:
    below = tmp_path / "shots" / "day one"
    below.mkdir(parents=True)
    for place, file in ((below.parent, FILES[0]), (below, FILES[1])):
        (place / file["name"]).write_bytes(file["buffer"])
        (place / "notes.txt").write_text("no image")
        (place / f".{file['name']}").write_bytes(b"what a system left behind")
    # Events made by scripts carry no folders; the debugger's protocol drags as the desktop does.
    debugger = visit.page.context.new_cdp_session(visit.page)
    dragged = {"items": [], "files": [str(tmp_path / "shots")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": 300, "y": 300, "data": dragged}
        debugger.send("Input.dispatchDragEvent", event)
        dropping = "document.body.classList.contains('dropping')"
        visit.until(dropping if kind != "drop" else f"!{dropping}")
    visit.settle()
    assert sorted(row["path"] for row in downloaded(visit)) == [
        "shots/b.png",
        "shots/day one/a.png",
    ]


def test_a_csv_without_the_columns_says_which_it_needs(visit: Visit) -> None:
    wrong = payload("wrong.csv", "text/csv", b"file,text\na.png,x\n")
    visit.choose(wrong, wait=False)
    message = visit.page.get_by_text("wrong.csv needs the columns image and prompt").first
    message.wait_for()
    assert message.is_visible()


def test_the_dialog_shows_one_image_and_arrow_keys_go_to_its_neighbours(visit: Visit) -> None:
    visit.choose(*FILES)
    visit.page.get_by_role("button", name="a.png").click()
    title, place = visit.page.locator("#viewer-title"), visit.page.locator("#viewer-place")
    assert (title.inner_text(), place.inner_text()) == ("a.png", "2 of 3 images")
    visit.page.keyboard.press("ArrowRight")
    assert title.inner_text() == "c.png"
    visit.page.keyboard.press("ArrowLeft")
    visit.page.keyboard.press("ArrowLeft")
    assert title.inner_text() == "b.png"
    visit.page.keyboard.press("Escape")
    visit.page.locator("#viewer").wait_for(state="hidden")


def test_one_image_can_have_a_prompt_of_its_own(visit: Visit) -> None:
    visit.generated("a tray of sushi")
    visit.choose(*FILES)
    visit.page.get_by_role("button", name="a.png").click()
    visit.page.locator("#viewer textarea").fill("a blue vase")
    visit.page.get_by_role("button", name="Score with this prompt").click()
    visit.page.keyboard.press("Escape")
    visit.page.locator(".card-prompt", has_text="a blue vase").wait_for()
    visit.settle()
    prompts = {row["path"]: row["prompt"] for row in downloaded(visit)}
    assert prompts == {
        "b.png": "a tray of sushi",
        "a.png": "a blue vase",
        "c.png": "a tray of sushi",
    }


def test_thousands_of_images_put_no_more_than_a_page_of_cards_into_the_tab(visit: Visit) -> None:
    visit.page.evaluate(
        """() => {
          const answer = {quality: 0.5, mos: 50, mos_range: [0, 100], crops: 1, scaled: false,
                          model: {name: 'tiny-mpiqe', revision: 'r'}, crop_scores: []};
          window.fetch = async () => new Response(JSON.stringify(answer));
          const data = new DataTransfer();
          for (let i = 0; i < 2500; i += 1) data.items.add(new File(['x'], `${i}.png`));
          document.body.dispatchEvent(new DragEvent('drop',
            {bubbles: true, cancelable: true, dataTransfer: data}));
        }"""
    )
    visit.settle()
    assert "2,500 images" in visit.text(".spread")
    assert visit.page.locator(".card").count() == 60
    visit.page.get_by_role("button", name="Next →").click()
    assert visit.text(".pager p") == "61\u2013120 of 2,500"
    assert visit.names()[0] == "60.png"
    assert len(downloaded(visit)) == 2500
