"""All that the OpenAPI page shows is run against the real service, or held to its answers."""

import contextlib
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import skimage.data
from PIL import Image
from pydantic import BaseModel

import app.schemas
from app.samples import HOST, PROMPT, refusals
from tests.app import pictures
from tests.app.pictures import encoded, picture
from tests.app.server import Running

pytestmark = pytest.mark.integration

ENDPOINTS = ("/score", "/score-agi", "/score/batch", "/score-agi/batch", "/models")
PROBLEM_JSON = "application/problem+json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the samples name."""
    made = tmp_path_factory.mktemp("samples")
    Image.fromarray(skimage.data.astronaut()).save(made / "photo.jpg")
    Image.fromarray(skimage.data.coffee()).save(made / "generated.jpg")
    return made


@pytest.fixture(scope="module")
def openapi(service: Running) -> dict[str, Any]:
    document: dict[str, Any] = service.client.get("/openapi.json").json()
    return document


def operation(openapi: dict[str, Any], path: str) -> dict[str, Any]:
    (only,) = openapi["paths"][path].values()
    found: dict[str, Any] = only
    return found


def fits(answer: Any, content: dict[str, Any]) -> None:
    """Fails unless the answer is what the schema of a content says, without a field beside it."""
    name = content["schema"]["$ref"].removeprefix("#/components/schemas/")
    schema: type[BaseModel] = getattr(app.schemas, name)
    assert schema.model_validate(answer).model_dump(mode="json", exclude_unset=True) == answer


@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_example_answers_fit_their_schemas(openapi: dict[str, Any], path: str) -> None:
    for status, response in operation(openapi, path)["responses"].items():
        ((media_type, content),) = response["content"].items()
        assert media_type == ("application/json" if status == "200" else PROBLEM_JSON)
        assert content["examples"]
        for example in content["examples"].values():
            fits(example["value"], content)
            if status != "200":
                assert example["value"]["status"] == int(status)
                assert example["value"]["detail"]
        assert "X-Request-ID" in response["headers"]
        assert ("Retry-After" in response["headers"]) == (status in {"429", "503"})


@pytest.mark.parametrize("path", ENDPOINTS)
def test_headers_and_the_optional_key_are_documented(openapi: dict[str, Any], path: str) -> None:
    documented = operation(openapi, path)
    headers = {p["name"] for p in documented["parameters"] if p["in"] == "header"}
    assert headers == (
        {"X-Request-ID", "X-Request-Timeout"} if path != "/models" else {"X-Request-ID"}
    )
    assert documented["security"] == [{"bearer": []}, {}]
    assert openapi["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert documented["summary"]


def sources(openapi: dict[str, Any], path: str, lang: str) -> list[str]:
    samples = operation(openapi, path)["x-codeSamples"]
    found = [sample["source"] for sample in samples if sample["lang"] == lang]
    assert found
    return found


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl: apt-get install curl")
@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_curl_sample_runs(
    openapi: dict[str, Any], service: Running, folder: Path, path: str
) -> None:
    (content,) = operation(openapi, path)["responses"]["200"]["content"].values()
    for source in sources(openapi, path, "Shell"):
        assert HOST in source
        command = ["bash", "-c", source.replace(HOST, service.url)]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, check=True, env={"PATH": os.environ["PATH"]}
        )
        fits(json.loads(done.stdout), content)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_python_sample_runs(
    openapi: dict[str, Any],
    service: Running,
    folder: Path,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    schema = {"/score/batch": "ScoreItem", "/score-agi/batch": "AgiScoreItem"}
    (content,) = operation(openapi, path)["responses"]["200"]["content"].values()
    for source in sources(openapi, path, "Python"):
        assert HOST in source
        names: dict[str, Any] = {}
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(source.replace(HOST, service.url), names)
        assert printed.getvalue().strip()
        result = names.get("score") or names.get("result")
        if path == "/models":
            fits({"models": [names["model"].raw]}, content)
        elif path in schema:
            fits(result.raw, {"schema": {"$ref": schema[path]}})
        else:
            fits(result.raw, content)


def assert_same(example: Any, answer: Any) -> None:
    """Fails unless every figure of the example is in the answer, within what encoders differ."""
    if isinstance(example, dict):
        for name, value in example.items():
            assert_same(value, answer[name])
    elif isinstance(example, float):
        assert answer == pytest.approx(example, abs=0.02 if abs(example) <= 1 else 2)
    else:
        assert answer == example


def test_the_example_answers_are_the_service_s_own(
    openapi: dict[str, Any], service: Running, folder: Path
) -> None:
    def examples(path: str) -> dict[str, Any]:
        (content,) = operation(openapi, path)["responses"]["200"]["content"].values()
        found: dict[str, Any] = content["examples"]
        return found

    photo, generated = (folder / "photo.jpg").read_bytes(), (folder / "generated.jpg").read_bytes()
    scored = service.client.post("/score", files={"image": photo}).json()
    assert_same(examples("/score")["photograph"]["value"], scored)
    for name, form in (("with a prompt", {"prompt": PROMPT}), ("without", {})):
        answer = service.client.post("/score-agi", files={"image": generated}, data=form).json()
        assert_same(examples("/score-agi")[name]["value"], answer)
    described = {m["name"]: m for m in service.client.get("/models").json()["models"]}
    (model,) = examples("/models")["one model"]["value"]["models"]
    assert_same(model, described[model["name"]])


def refused(client: httpx.Client, code: str) -> httpx.Response:
    """What the service says to the request that the example of a refusal is about."""
    image = {"image": encoded()}
    if code == "unreadable_image":
        return client.post("/score", files={"image": ("photo.jpg", b"")})
    if code == "unknown_model":
        return client.post("/score?model=x", files=image)
    if code == "too_large":
        return client.post("/score", files={"image": pictures.png_header(20_000, 10_000)})
    if code == "unsupported_image":
        return client.post("/score", files={"image": pictures.SVG})
    if code == "bad_field":
        files = [("images", encoded())] * 3
        return client.post("/score-agi/batch", files=files, data={"prompts": ["one", "two"]})
    assert code == "bad_aspect"
    return client.post("/score", files={"image": encoded(picture(5200, 100))})


@pytest.mark.parametrize(
    "error",
    [e for status in (400, 404, 413, 415, 422) for e in refusals()[status]],
    ids=lambda e: e.code,
)
def test_the_example_refusals_are_the_service_s_own(service: Running, error: Any) -> None:
    answer = refused(service.client, error.code)
    assert answer.status_code == error.status
    assert answer.json()["detail"] == error.detail


def test_batch_answers_have_no_field_that_a_single_answer_lacks(service: Running) -> None:
    image = encoded()
    single = service.client.post("/score", files={"image": image}).json()
    files = [("images", ("a.png", image)), ("images", ("b.svg", pictures.SVG))]
    both = service.client.post("/score/batch", files=files).json()["results"]
    assert list(both[0]) == ["filename", *single]
    names = ["filename", "type", "title", "status", "detail", "code", "request_id"]
    assert list(both[1]) == names
