"""A prompt without a known word, through the service: each answer about it says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agiqa_client import Client
from app.bulk.tables import read
from tests.app import miniatures
from tests.app.bulk.scored import agiqa
from tests.app.http.test_http import score
from tests.app.pictures import encoded
from tests.app.server import Running, serving

pytestmark = pytest.mark.integration

KNOWN, UNKNOWN = "a cat", "zqx of the wvk"
SENTENCE = "The prompt has no word that this model knows; consistency is alignment."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "three-words"
    return miniatures.generated_image_model(place, known_words=("cat", "boat", "lighthouse"))


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Running]:
    with serving(folder.parent, {"AGIQA_MODELS": str(folder)}) as running:
        yield running


def test_the_answer_has_a_detail_and_consistency_is_alignment(served: Running) -> None:
    body = score(served.client, encoded(), "/score-agi", prompt=UNKNOWN).json()
    assert body["detail"] == SENTENCE
    assert body["consistency"] == body["alignment"]


def test_a_known_word_no_prompt_and_quality_alone_have_none(served: Running) -> None:
    known = score(served.client, encoded(), "/score-agi", prompt=KNOWN).json()
    assert known["consistency"] != known["alignment"]
    assert "detail" not in known
    assert "detail" not in score(served.client, encoded(), "/score-agi").json()
    assert "detail" not in score(served.client, encoded()).json()


def test_each_item_of_a_batch_has_its_own(served: Running) -> None:
    files = [("images", (f"{i}.png", encoded())) for i in range(3)]
    prompts = {"prompts": [KNOWN, UNKNOWN, ""]}
    results = served.client.post("/score-agi/batch", files=files, data=prompts).json()["results"]
    assert [item.get("detail") for item in results] == [None, SENTENCE, None]


def test_the_client_has_it_of_one_image_and_of_several(served: Running) -> None:
    with Client(served.url) as client:
        assert client.score_agi(encoded(), UNKNOWN).detail == SENTENCE
        assert client.score_agi(encoded(), KNOWN).detail is None
        known, unknown = client.score_agi_batch([encoded()] * 2, [KNOWN, UNKNOWN])
    assert (known.detail, unknown.detail) == (None, SENTENCE)


@pytest.mark.parametrize("there", [False, True])
def test_a_row_of_agiqa_score_has_it_and_still_has_scores(
    there: bool, served: Running, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    model = ("--server", served.url) if there else ("-m", folder)
    for prompt, heads, detail in (
        (UNKNOWN, "quality,alignment,consistency", SENTENCE),
        (KNOWN, "quality,alignment,consistency", None),
        (UNKNOWN, "quality,alignment", None),
    ):
        options = ("--prompt", prompt, "--heads", heads, "--overwrite", "-o", tmp_path / "s.csv")
        assert agiqa("score", tmp_path / "a.png", *options, *model).exit_code == 0
        (row,) = read(tmp_path / "s.csv")
        assert (row["code"], row["detail"]) == (None, detail)
        assert row["quality"] is not None
