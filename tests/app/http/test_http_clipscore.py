"""CLIPScore beside a model of photographs: what nobody trained answers about prompts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import model
from tests.app import miniatures
from tests.app.http.test_http import assert_problem, score
from tests.app.pictures import encoded, picture
from tests.app.server import Running, serving

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def both(folder: Path) -> Iterator[Running]:
    models = (
        miniatures.photograph_model(folder / "photo"),
        miniatures.prompt_model(folder / "clipscore"),
    )
    with serving(folder, {"AGIQA_MODELS": ",".join(map(str, models))}) as running:
        yield running


def test_score_agi_is_answered_with_the_consistency_of_the_users_prompt(
    both: Running, folder: Path
) -> None:
    image = picture(400, 300)
    body = score(both.client, encoded(image), "/score-agi", prompt="a red wave").json()
    assert body["model"]["name"] == "clipscore"
    alone = model.load(str(folder / "clipscore"), device="cpu", dtype="float32")
    wanted = alone.score(image, "a red wave")
    assert body["consistency"] == pytest.approx(wanted.consistency, abs=1e-2)
    assert body["quality"] == pytest.approx(wanted.quality, abs=1e-2)
    assert (body["alignment"], body["crops"]) == (None, 1)
    other = score(both.client, encoded(image), "/score-agi", prompt="seven green cats").json()
    assert other["consistency"] != body["consistency"]
    assert score(both.client, encoded(image)).json()["model"]["name"] == "photo"


def test_a_prompt_beyond_the_bound_is_refused_and_one_of_several_contexts_is_not(
    both: Running,
) -> None:
    long = score(both.client, encoded(), "/score-agi", prompt="a red wave, " * 100)
    assert long.status_code == 200, long.text
    refused = score(both.client, encoded(), "/score-agi", prompt="a " * 513)
    assert_problem(refused, 422, "bad_field")
    assert "513 tokens" in refused.json()["detail"]
