"""All that the OpenAPI page shows is run against the real service, or held to its answers."""

import contextlib
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import app.http.schemas
from app.http.openapi import recorded
from tests.app import pictures
from tests.app.pictures import encoded
from tests.app.server import Running
from tests.client import record_openapi_examples as record
from tests.figures import assert_figures

pytestmark = [pytest.mark.integration, pytest.mark.figures]

HOST = "http://localhost:8000"
ENDPOINTS = ("/score", "/score-agi", "/score/batch", "/score-agi/batch", "/models")
PROBLEM_JSON = "application/problem+json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the samples name."""
    made = tmp_path_factory.mktemp("samples")
    record.images(made)
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
    schema: type[BaseModel] = getattr(app.http.schemas, name)
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
    of_scoring = {"X-Request-Timeout", "X-Priority"} if path != "/models" else set()
    assert headers == {"X-Request-ID"} | of_scoring
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


def test_the_example_answers_are_the_service_s_own(service: Running, folder: Path) -> None:
    assert_figures(recorded()["answers"], record.answers(service.client, folder))


def test_the_example_refusals_are_the_service_s_own(
    openapi: dict[str, Any], service: Running
) -> None:
    sentences = record.refusals(service.client)
    assert recorded()["refusals"] == sentences
    shown = {
        code: example["value"]["detail"]
        for response in operation(openapi, "/score")["responses"].values()
        for code, example in next(iter(response["content"].values()))["examples"].items()
        if code in sentences
    }
    assert shown == sentences


def test_batch_answers_have_no_field_that_a_single_answer_lacks(service: Running) -> None:
    image = encoded()
    single = service.client.post("/score", files={"image": image}).json()
    files = [("images", ("a.png", image)), ("images", ("b.svg", pictures.SVG))]
    both = service.client.post("/score/batch", files=files).json()["results"]
    assert list(both[0]) == ["filename", *single]
    names = ["filename", "type", "title", "status", "detail", "code", "request_id"]
    assert list(both[1]) == names
