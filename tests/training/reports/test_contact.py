"""Contact sheets and the images that come onto them."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from training.reports.contact import TILE, captioned, contact_sheet, extremes


def row(name: str, quality: float, mos: float = 0.5) -> dict[str, Any]:
    return {"image": name, "path": f"/nowhere/{name}", "quality": quality, "mos": mos}


ROWS = [row("a", 0.9), row("b", 0.6), row("c", 0.5), row("d", 0.45), row("e", 0.1)]


def opened(image: bytes) -> Image.Image:
    return Image.open(io.BytesIO(image)).convert("RGB")


def names(rows: list[dict[str, Any]], count: int) -> list[list[str]]:
    """Over, under and in best agreement."""
    found = extremes(rows, count, "quality", "mos")
    return [[row["image"] for row in chosen] for chosen in found.values()]


def test_extremes_are_the_worst_on_both_sides_and_the_best() -> None:
    assert names(ROWS, 1) == [["a"], ["e"], ["c"]]


def test_an_image_is_in_one_list_only_and_on_its_own_side() -> None:
    assert names(ROWS, 10) == [["a", "b"], ["e", "d"], ["c"]]


def test_ties_go_by_name_whatever_the_order_of_the_rows() -> None:
    tied = [row("z", 0.7), row("y", 0.7), row("x", 0.7)]
    assert names(tied, 2)[0] == names(tied[::-1], 2)[0] == ["x", "y"]


def test_captions_tell_the_name_the_prediction_and_the_opinion() -> None:
    (found,) = captioned(ROWS[:1], "quality", "mos")
    assert found == (Path("/nowhere/a"), "a\npredicted 0.900, MOS 0.500")
    assert captioned([{"image": "a", "quality": 0.9, "mos": 0.5}], "quality", "mos") == []


def test_pictures_are_shown_in_place_and_the_unreadable_are_grey_tiles(tmp_path: Path) -> None:
    Image.new("RGB", (600, 300), (200, 20, 20)).save(tmp_path / "red.png")
    (tmp_path / "text.jpg").write_text("no image")
    places = ["red.png", "text.jpg", "gone.png", "\0", "", "red.png"]
    figure = contact_sheet([(tmp_path / name, f"{name}\nx") for name in places], columns=3)
    sheet = opened(figure.image)
    assert sheet.width == 3 * TILE + 4 * 12
    middles = [
        (n % 3 * (TILE + 12) + 60, n // 3 * (sheet.height - 12) // 2 + 160) for n in range(6)
    ]
    colours: list[Any] = [sheet.getpixel(middle) for middle in middles]
    for number in (0, 5):
        assert sum(abs(a - b) for a, b in zip(colours[number], (200, 20, 20), strict=True)) < 20
    for number in (1, 2, 3, 4):
        assert max(colours[number]) - min(colours[number]) < 10
        assert 180 < colours[number][0] < 215
    assert "red.png x; text.jpg x" in figure.alt


def test_long_and_strange_captions_stay_on_their_tile(tmp_path: Path) -> None:
    strange = ["w" * 500, "a\x00\x07\u202eb", "图像 🙂", ""]
    figure = contact_sheet([(tmp_path / "x", text) for text in strange])
    assert opened(figure.image).width == 4 * TILE + 5 * 12
    gap: list[Any] = [
        opened(figure.image).getpixel((TILE + 12 + 4, y)) for y in range(TILE, TILE + 40)
    ]
    assert min(min(pixel) for pixel in gap) > 220


def test_a_sheet_is_the_same_each_time_and_needs_a_picture(tmp_path: Path) -> None:
    pictures = [(tmp_path / "x", "x")]
    assert contact_sheet(pictures) == contact_sheet(pictures)
    assert opened(contact_sheet(pictures).image).width == TILE + 24
    with pytest.raises(ValueError, match="needs a picture"):
        contact_sheet([])
