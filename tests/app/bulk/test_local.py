"""Scoring on this machine: the pipeline's results as rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

import model
from app.batching.errors import InferenceFailed
from app.bulk.local import LocalScoring
from app.bulk.rows import Item, ModelFacts
from model.config import HEADS, Head
from model.errors import InferenceError
from model.pipeline import Pipeline
from model.scorer import Scorer
from model.scores import Score
from tests.app.bulk.scored import MODEL
from tests.app.pictures import SVG, encoded, picture


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return model.load("tiny-clip-agiqa", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def facts(scorer: Scorer) -> ModelFacts:
    config = scorer.config
    return ModelFacts(config.name, config.revision, "grid", config.heads, (0.0, 5.0))


def test_a_row_holds_the_scores_of_its_image(
    scorer: Scorer, facts: ModelFacts, tmp_path: Path
) -> None:
    items = []
    for number, form in enumerate(("PNG", "JPEG")):
        file = tmp_path / f"{number}.{form.lower()}"
        file.write_bytes(encoded(picture(300, 260, seed=number), form))
        items.append(Item(file, "a cat" if number else None))
    rows = list(LocalScoring(Pipeline(scorer), facts).score(items))
    assert [row["path"] for row in rows] == [item.name for item in items]
    for row, item in zip(rows, items, strict=True):
        expected = scorer.score(item.path, item.prompt)
        assert (row["code"], row["crops"]) == (None, expected.crops)
        for head in HEADS:
            value = getattr(expected, head)
            assert row[head] == (value if value is None else pytest.approx(value, abs=2e-6))


def test_what_an_image_lacks_is_said_in_its_row(
    scorer: Scorer, facts: ModelFacts, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    (tmp_path / "bad.png").write_bytes(SVG)
    items = [
        Item(tmp_path / "a.png"),
        Item(tmp_path / "gone.png", "a cat"),
        Item(tmp_path / "bad.png", "a drawing"),
    ]
    scoring = LocalScoring(Pipeline(scorer), facts, ("quality", "consistency"))
    unprompted, gone, bad = scoring.score(items)
    assert unprompted["code"] == "bad_field"
    assert "needs the prompt" in unprompted["detail"]
    assert gone["code"] == "unreadable_file"
    assert gone["detail"] == "The file can't be read: No such file or directory."
    assert bad["code"] == "unsupported_image"


def test_a_prompt_of_too_many_tokens_is_said_in_its_row_and_others_are_scored(
    scorer: Scorer, facts: ModelFacts, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    prompts = ("a cat", "dog " * 513, "a hen")
    items = [Item(tmp_path / "a.png", prompt) for prompt in prompts]
    first, long, last = LocalScoring(Pipeline(scorer), facts).score(items)
    assert (first["code"], long["code"], last["code"]) == (None, "bad_field", None)
    assert "513 tokens" in long["detail"]
    (row,) = LocalScoring(Pipeline(scorer), facts, ("quality",)).score(items[1:2])
    assert row["code"] is None


class Failing:
    """A pipeline whose network fails on every image."""

    def score(
        self, files: Sequence[tuple[Path, str | None]], heads: Sequence[Head] | None = None
    ) -> Iterator[tuple[int, Score | Exception]]:
        assert heads is None
        for number in range(len(files)):
            yield number, InferenceError("The model failed on this image.")


def test_an_image_that_the_model_fails_on_has_the_code_of_the_service(facts: ModelFacts) -> None:
    scoring = LocalScoring(cast(Pipeline, Failing()), facts)
    (row,) = scoring.score([Item(Path("a.png"))])
    assert (row["path"], row["code"]) == ("a.png", InferenceFailed.code)
    assert row["detail"] == "The model failed on this image."


def test_the_pretended_model_of_other_tests_has_all_that_a_model_tells() -> None:
    assert MODEL.heads == HEADS
