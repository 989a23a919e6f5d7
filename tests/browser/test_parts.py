"""Modules of the page, asked directly."""

from typing import Any

import pytest

from tests.browser.visit import Visit

pytestmark = [pytest.mark.browser, pytest.mark.integration]


def ask(visit: Visit, module: str, code: str, given: Any = None) -> Any:
    """What ``code`` gives, with the module as ``m`` and ``given``."""
    return visit.page.evaluate(
        f"async given => {{ const m = await import('/static/{module}.js'); return {code}; }}", given
    )


def test_overlapping_windows_are_averaged_over_every_pixel(visit: Visit) -> None:
    windows = [0, 0, 10, 10, 0.2, 6, 0, 10, 10, 0.6]
    cells = ask(visit, "windows", "new m.Windows(new Float32Array(given)).cells()", windows)
    boxes = [(c["x"], c["width"], round(c["score"], 4)) for c in cells]
    assert boxes == [(0, 6, 0.2), (6, 4, 0.4), (10, 6, 0.6)]
    assert {(c["y"], c["height"]) for c in cells} == {(0, 10)}


def test_the_window_under_a_point_is_the_one_whose_middle_is_nearest(visit: Visit) -> None:
    windows = [0, 0, 10, 10, 0.2, 6, 0, 10, 10, 0.6]
    code = "[1, 7, 9, 15, 20].map(x => new m.Windows(new Float32Array(given)).under(x, 5))"
    assert ask(visit, "windows", code, windows) == [0, 0, 1, 1, -1]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\r\n1,2\r\n", [["a", "b"], ["1", "2"]]),
        ('\ufeffa,"b,""c""\nd"\n', [["a", 'b,"c"\nd']]),
        ("a,\n\n,b", [["a", ""], ["", "b"]]),
    ],
    ids=["lines of Windows", "quotes", "empty fields and lines"],
)
def test_csv_is_read_as_rfc_4180_has_it(visit: Visit, text: str, rows: list[list[str]]) -> None:
    assert ask(visit, "csv", "m.parse(given)", text) == rows


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_text_that_a_spreadsheet_takes_for_a_formula_is_guarded(visit: Visit, start: str) -> None:
    code = (
        "m.table([{path: given, state: 'cancelled', head: () => null, problem: null,"
        " used: null, answer: null, requestId: null}]).split('\\n')[1]"
    )
    assert ask(visit, "csv", code, f"{start}1").startswith(f"'{start}1,")


def test_what_is_to_be_known_of_scores_is_in_their_row(visit: Visit) -> None:
    code = (
        "m.table([{path: 'a.png', state: 'scored', head: () => 0.5, problem: null, used: null,"
        " requestId: null, answer: {detail: given, mos: 1, mos_range: [0, 5], crops: 1,"
        " scaled: false, model: {name: 'tiny', revision: '1'}}}]).split('\\n')[1]"
    )
    assert ask(visit, "csv", code, "Mind.").startswith("a.png,0.5,0.5,0.5,,Mind.,")


def test_the_colours_rise_in_lightness(visit: Visit) -> None:
    code = "Array.from({length: 21}, (_, i) => m.viridis(i / 20).match(/\\d+/g).map(Number))"
    colours = ask(visit, "colour", code)
    light = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in colours]
    assert light == sorted(light)
    assert colours[0] == [68, 1, 84]
    assert colours[-1] == [253, 231, 37]


def test_scores_fall_into_twenty_bars_and_one_into_the_last(visit: Visit) -> None:
    assert ask(visit, "items", "[0, 0.049, 0.05, 0.999, 1].map(m.binOf)") == [0, 0, 1, 19, 19]
