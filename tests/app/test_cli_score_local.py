"""Scoring on this machine: what the pipeline gives is what the scorer gives."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import model
from app.offline.local import LocalScoring, Room
from app.offline.rows import HEADS, Item, ModelFacts, Row
from model.config import Head
from model.scorer import Scorer
from tests.app.pictures import SVG, encoded, picture
from tests.app.scored import MODEL

SIZES = ((300, 260), (224, 224), (500, 300), (90, 120), (300, 260), (640, 480))


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return model.load("tiny-clip-agiqa", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Images of several sizes and formats, some with a prompt; the fourth is none."""
    place = tmp_path_factory.mktemp("images")
    items = []
    for number, size in enumerate(SIZES):
        form = ("PNG", "JPEG")[number % 2]
        file = place / f"{number}.{form.lower()}"
        file.write_bytes(encoded(picture(*size, seed=number), form))
        items.append(Item(file, f"picture {number}" if number % 3 else None))
    (place / "bad.png").write_bytes(SVG)
    items.insert(3, Item(place / "bad.png", "a drawing"))
    return items


class Watched:
    """A scorer that counts the rows of each call of the network, and fails when told to."""

    def __init__(self, scorer: Scorer, fails: Any = lambda rows: None) -> None:
        self._scorer, self._fails = scorer, fails
        self.rows: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    def forward(
        self, crops: np.ndarray, row_crop: Sequence[int], row_pass: Sequence[int]
    ) -> np.ndarray:
        self.rows.append(len(row_crop))
        self._fails(len(row_crop))
        return self._scorer.forward(crops, row_crop, row_pass)


def facts(scorer: Scorer) -> ModelFacts:
    config = scorer.config
    return ModelFacts(config.name, config.revision, "grid", config.heads, (0.0, 5.0))


def pipeline(scorer: Any, **options: Any) -> LocalScoring:
    return LocalScoring(scorer, facts(scorer), **options)


def assert_as_the_scorer(
    rows: list[Row], items: list[Item], scorer: Scorer, heads: Sequence[Head] | None = None
) -> None:
    assert [row["path"] for row in rows] == [item.name for item in items]
    for row, item in zip(rows, items, strict=True):
        if item.path.name == "bad.png":
            assert row["code"] == "unsupported_image"
            continue
        expected = scorer.score(item.path, item.prompt, heads)
        assert row["code"] is None
        assert row["crops"] == expected.crops
        for head in HEADS:
            value = getattr(expected, head)
            assert row[head] == (value if value is None else pytest.approx(value, abs=2e-6))


@pytest.mark.parametrize("rows", [7, 64, 1000])
def test_rows_are_those_of_the_scorer_in_the_order_of_the_images(
    scorer: Scorer, items: list[Item], rows: int
) -> None:
    assert_as_the_scorer(list(pipeline(scorer, rows=rows).score(items)), items, scorer)


def test_heads_that_were_not_chosen_are_not_computed(scorer: Scorer, items: list[Item]) -> None:
    watched = Watched(scorer)
    rows = list(pipeline(watched, heads=("quality",), rows=1000).score(items))
    assert_as_the_scorer(rows, items, scorer, ("quality",))
    assert sum(watched.rows) == sum(scorer.plan(*size, ("quality",)) for size in SIZES)


def test_rows_of_several_images_share_a_call_up_to_the_budget(
    scorer: Scorer, items: list[Item]
) -> None:
    good = [item for item in items if item.path.name != "bad.png"] * 3
    watched = Watched(scorer)
    assert len(list(pipeline(watched, rows=60).score(good))) == len(good)
    assert max(watched.rows) <= 60
    assert len(watched.rows) < len(good)


def test_a_network_that_runs_out_of_memory_gets_less_at_once(
    scorer: Scorer, items: list[Item]
) -> None:
    def short_of_memory(rows: int) -> None:
        if rows > 5:
            raise RuntimeError("CUDA out of memory. Tried to allocate ...")

    watched = Watched(scorer, short_of_memory)
    assert_as_the_scorer(list(pipeline(watched, rows=64).score(items)), items, scorer)


def test_an_image_that_the_network_fails_on_does_not_take_others_along(
    scorer: Scorer, items: list[Item]
) -> None:
    largest = scorer.plan(640, 480, ("quality",))

    def breaks(rows: int) -> None:
        if rows >= largest:
            raise RuntimeError("no kernel for this")

    watched = Watched(scorer, breaks)
    *others, last = pipeline(watched, heads=("quality",), rows=1000).score(items)
    assert last["code"] == "inference_failed"
    assert_as_the_scorer(others, items[:-1], scorer, ("quality",))


def test_what_an_image_lacks_is_said_in_its_row(scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    items = [Item(tmp_path / "a.png"), Item(tmp_path / "gone.png", "a cat")]
    heads: tuple[Head, ...] = ("quality", "consistency")
    unprompted, gone = pipeline(scorer, heads=heads).score(items)
    assert unprompted["code"] == "bad_field"
    assert "needs the prompt" in unprompted["detail"]
    assert gone["code"] == "unreadable_file"
    assert gone["detail"] == "The file can't be read: No such file or directory."


def test_leaving_early_stops_the_threads(scorer: Scorer, items: list[Item]) -> None:
    rows = pipeline(scorer, threads=2, rows=1).score(items * 20)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name.startswith("decode"):
            thread.join(30)
            assert not thread.is_alive()


def test_room_bounds_what_is_ahead_but_lets_the_next_one_in() -> None:
    room = Room(10)
    room.enter(0, 50)
    entered = threading.Event()
    later = threading.Thread(target=lambda: (room.enter(2, 5), entered.set()))
    later.start()
    assert not entered.wait(0.05)
    room.leave(0)
    room.enter(1, 50)
    assert not entered.is_set()
    room.leave(1)
    later.join(30)
    assert entered.is_set()


def test_a_closed_room_lets_nobody_wait() -> None:
    room = Room(10)
    room.enter(0, 10)
    told: list[str] = []

    def wait() -> None:
        with pytest.raises(RuntimeError, match="has ended"):
            room.enter(5, 10)
        told.append("ended")

    waiting = threading.Thread(target=wait)
    waiting.start()
    room.close()
    waiting.join(30)
    assert told == ["ended"]


def test_the_pretended_model_of_other_tests_has_all_that_a_model_tells() -> None:
    assert MODEL.heads == HEADS
