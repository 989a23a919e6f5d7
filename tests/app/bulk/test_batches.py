"""Batches of other people's pipelines: which cells are an image, and which are nothing."""

import math

import pytest

from app.bulk.ray import _item

NOTHING = pytest.mark.parametrize("nothing", [None, math.nan, ""], ids=["None", "NaN", "empty"])


@NOTHING
def test_a_cell_of_nothing_is_no_prompt(nothing: object) -> None:
    batch = {"path": ["a.png", "b.png"], "prompt": [nothing, "a cat"]}
    assert [_item(batch, number).prompt for number in range(2)] == [None, "a cat"]


@NOTHING
def test_a_row_without_bytes_is_read_from_its_path(nothing: object) -> None:
    batch = {"path": ["a.png", "b.png"], "bytes": [nothing, b"data"]}
    first, second = (_item(batch, number) for number in range(2))
    assert first.source is None
    assert second.source is not None
    assert (first.name, second.name) == ("a.png", "b.png")


def test_bytes_without_a_path_are_called_by_their_number() -> None:
    assert _item({"bytes": [b"data"]}, 0).name == "#0"
