"""Several models in one service, over HTTP: which one answers, and what each kind tells."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import model
from model.methods.vocabulary import DISTORTIONS, SCENES
from model.scorer import Scorer
from tests.app import miniatures
from tests.app.http.test_http import assert_problem, score
from tests.app.pictures import encoded, picture
from tests.app.server import Running, serving

pytestmark = pytest.mark.integration

CLOSE = 1e-4


@pytest.fixture(scope="module")
def folders(hub_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The generated-image model comes first, so that no default is right by chance."""
    folder = tmp_path_factory.mktemp("models")
    made = [
        miniatures.generated_image_model(folder / "generated"),
        miniatures.photograph_model(folder / "photo"),
        miniatures.whole_image_model(folder / "whole"),
    ]
    return {path.name: path for path in made}


@pytest.fixture(scope="module")
def several(
    folders: dict[str, Path], hub_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    environment = {
        "AGIQA_MODELS": ",".join(map(str, folders.values())),
        "HF_HUB_CACHE": str(hub_cache),
        "HF_HUB_OFFLINE": "1",
    }
    with serving(tmp_path_factory.mktemp("several"), environment) as running:
        yield running


@pytest.fixture(scope="module")
def bare(folders: dict[str, Path]) -> dict[str, Scorer]:
    return {
        name: model.load(str(path), device="cpu", dtype="float32") for name, path in folders.items()
    }


@pytest.fixture
def http(several: Running) -> httpx.Client:
    return several.client


def files(*sizes: tuple[int, int]) -> list[Any]:
    return [
        ("images", (f"{w}x{h}.png", encoded(picture(w, h, seed=i))))
        for i, (w, h) in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("path", "answers"),
    [
        ("/score", "photo"),
        ("/score-agi", "generated"),
        ("/score?model=generated", "generated"),
        ("/score?model=whole", "whole"),
        ("/score-agi?model=photo", "photo"),
    ],
)
def test_each_call_is_answered_by_its_default_or_by_the_model_that_it_names(
    http: httpx.Client, bare: dict[str, Scorer], path: str, answers: str
) -> None:
    image = picture(400, 300)
    body = score(http, encoded(image), path).json()
    assert body["model"]["name"] == answers
    alone = bare[answers].score(image, heads=["quality"])
    assert body["quality"] == pytest.approx(alone.quality, abs=CLOSE)
    assert body["mos"] == pytest.approx(1 + 4 * body["quality"], abs=1e-3)


@pytest.mark.parametrize(
    ("path", "answers"),
    [
        ("/score/batch", "photo"),
        ("/score-agi/batch", "generated"),
        ("/score-agi/batch?model=whole", "whole"),
    ],
)
def test_batch_calls_have_the_same_defaults(http: httpx.Client, path: str, answers: str) -> None:
    results = http.post(path, files=files((300, 260), (300, 260))).json()["results"]
    assert [item["model"]["name"] for item in results] == [answers] * 2


@pytest.mark.parametrize(
    "path", ["/score", "/score-agi", "/score/batch", "/score-agi/batch"], ids=str
)
def test_an_unknown_model_is_refused_with_those_that_are_there(
    http: httpx.Client, path: str
) -> None:
    field = "images" if path.endswith("batch") else "image"
    response = http.post(f"{path}?model=none", files={field: ("a.png", encoded())})
    assert_problem(response, 404, "unknown_model")
    assert "generated, photo, whole" in response.json()["detail"]


def test_models_tells_what_each_one_is_the_default_for(http: httpx.Client) -> None:
    described = {m["name"]: m for m in http.get("/models").json()["models"]}
    assert {name: m["default_for"] for name, m in described.items()} == {
        "generated": ["/score-agi"],
        "photo": ["/score"],
        "whole": [],
    }
    assert described["whole"]["method"] == "clip-iqa"
    assert described["whole"]["crop_policy"]["kind"] == "whole"


def test_scene_and_distortion_are_rounded_probabilities_by_name(
    http: httpx.Client, bare: dict[str, Scorer]
) -> None:
    image = picture(512, 300)
    body = score(http, encoded(image)).json()
    alone = bare["photo"].score(image)
    for field, names in (("scene", SCENES), ("distortion", DISTORTIONS)):
        assert set(body[field]) == set(names)
        assert sum(body[field].values()) == pytest.approx(1, abs=1e-4)
        assert body[field] == pytest.approx(getattr(alone, field), abs=CLOSE)
        assert all(value == round(value, 6) for value in body[field].values())
    assert body["attributes"] is None


def test_attributes_come_from_a_model_of_antonyms_and_nothing_else_does(
    http: httpx.Client, bare: dict[str, Scorer]
) -> None:
    image = picture(300, 260)
    body = score(http, encoded(image), "/score?model=whole").json()
    assert {"brightness", "sharpness"} <= set(body["attributes"])
    assert body["attributes"] == pytest.approx(bare["whole"].score(image).attributes, abs=CLOSE)
    assert (body["scene"], body["distortion"]) == (None, None)


def test_score_agi_by_a_model_without_alignment_gives_nulls(http: httpx.Client) -> None:
    body = score(http, encoded(), "/score-agi?model=photo", prompt="a wave").json()
    assert (body["alignment"], body["consistency"]) == (None, None)
    assert 0 <= body["quality"] <= 1
    assert not {"scene", "distortion", "attributes"} & set(body)


def test_whole_images_of_unlike_size_sent_together_get_the_scorer_s_own_scores(
    several: Running, bare: dict[str, Scorer]
) -> None:
    sizes = [(300, 260), (500, 400), (300, 260), (900, 300)]
    before = several.metric("agiqa_crops_processed_total")
    body = several.client.post("/score/batch?model=whole", files=files(*sizes)).json()
    for i, (item, size) in enumerate(zip(body["results"], sizes, strict=True)):
        alone = bare["whole"].score(picture(*size, seed=i))
        assert item["quality"] == pytest.approx(alone.quality, abs=CLOSE)
        assert item["crops"] == 1
        assert item["scaled"] is (size == (900, 300))
    cost = sum(bare["whole"].plan(*size).cost for size in sizes)
    assert cost > 2 * len(sizes)
    assert several.metric("agiqa_crops_processed_total") - before == cost


def test_the_detail_of_a_whole_image_is_one_box_around_it(http: httpx.Client) -> None:
    body = score(http, encoded(picture(500, 400)), "/score?model=whole&detail=true").json()
    (window,) = body["crop_scores"]
    assert window["box"] == [0, 0, 500, 400]
    assert window["score"] == pytest.approx(body["quality"], abs=1e-6)


def test_calls_of_all_models_at_once_each_get_their_own_scores(
    several: Running, bare: dict[str, Scorer]
) -> None:
    calls = [(name, seed) for seed in range(4) for name in bare]

    def ask(call: tuple[str, int]) -> Any:
        name, seed = call
        data = encoded(picture(300 + 10 * seed, 260, seed))
        with httpx.Client(base_url=several.url, timeout=60) as client:
            return score(client, data, f"/score?model={name}").json()

    with ThreadPoolExecutor(len(calls)) as pool:
        answers = list(pool.map(ask, calls))
    for (name, seed), body in zip(calls, answers, strict=True):
        alone = bare[name].score(picture(300 + 10 * seed, 260, seed), heads=["quality"])
        assert body["quality"] == pytest.approx(alone.quality, abs=CLOSE)


def test_the_log_tells_who_answers_what(several: Running) -> None:
    assert "/score by photo, /score-agi by generated by default" in several.log.read_text()


@pytest.mark.parametrize("fault", ["missing", "same name", "damaged"])
def test_a_fault_in_one_of_several_models_ends_the_service_and_names_it(
    folders: dict[str, Path], tmp_path: Path, fault: str
) -> None:
    photo = folders["photo"]
    bad = tmp_path / "bad"
    if fault == "damaged":
        miniatures.photograph_model(bad)
        (bad / "model.safetensors").write_bytes(b"nothing")
    models, message = {
        "missing": (f"{photo},{bad}", "no checkpoint"),
        "same name": (f"{photo},{photo}", "two of the models are named 'photo'"),
        "damaged": (f"{photo},{bad}", "agiqa seal"),
    }[fault]
    with serving(tmp_path, {"AGIQA_MODELS": models}, wait=False) as service:
        assert service.process.wait(60) == 1
        log = service.log.read_text()
    assert message in log
    assert fault == "same name" or f"while loading {bad}" in log
    assert "Traceback" not in log
