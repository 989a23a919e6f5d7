"""The commands about checkpoints; a stand-in answers for the service, the hub and the assembly."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import model.seal
import model.store.assemble
import model.store.publish
from app.cli.main import main
from app.cli.models import read_pairs, table
from model.config import BackboneConfig, CheckpointConfig
from model.errors import CheckpointError
from model.store.checkpoint import read_config
from tests.app.miniatures import photograph_model
from tests.app.server import free_port

MODELS = [
    {
        "name": "photo",
        "method": "mp-iqe",
        "backbone": "ViT-B-16",
        "heads": ["quality"],
        "trained_on": ["KonIQ", "LIVE"],
        "metrics": {"srcc": 0.8125, "quality_srcc": 0.8125},
        "default_for": ["/score"],
    },
    {
        "name": "zero-shot",
        "method": "clip-iqa",
        "backbone": "RN50",
        "heads": ["quality"],
        "trained_on": [],
        "metrics": {},
        "default_for": [],
    },
]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that gives every GET this answer; its address, and the headers that it saw."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def test_models_lists_the_bundled_ones_with_their_figures_in_a_table() -> None:
    result = run("models")
    assert result.exit_code == 0, result.output
    heading, *rows = result.output.splitlines()
    assert heading.split()[:2] == ["name", "method"]
    (row,) = [row for row in rows if row.startswith("tiny-clip-agiqa ")]
    assert row[heading.index("trained on") :].startswith("AGIQA-3K, LIVE-Challenge ")
    assert float(row[heading.index("quality SRCC") :].split()[0]) >= 0.70
    assert "/score-agi" in row[heading.index("default for") :]


def test_models_as_json_has_what_the_service_would_tell() -> None:
    described = {m["name"]: m for m in json.loads(run("models", "--json").output)["models"]}
    bundled = described["tiny-clip-agiqa"]
    assert bundled["heads"] == ["quality", "alignment", "consistency"]
    assert bundled["score_range"] == [0.0, 5.0]
    assert bundled["metrics"]["srcc"] == bundled["metrics"]["quality_srcc"]


def test_models_of_a_running_service_are_asked_for_with_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with answering(200, json.dumps({"models": MODELS}).encode()) as (url, seen):
        output = run("models", "--server", f"{url}/", "--api-key", "first").output
        monkeypatch.setenv("AGIQA_API_KEY", "second")
        again = run("models", "--server", url.removeprefix("http://"), "--json").output
    assert output.splitlines() == [
        "name       method    backbone  heads    trained on   quality SRCC  default for  sealed",
        "photo      mp-iqe    ViT-B-16  quality  KonIQ, LIVE  0.812         /score       no",
        "zero-shot  clip-iqa  RN50      quality  -            -             -            no",
    ]
    assert json.loads(again)["models"] == MODELS
    assert [(s["path"], s["authorization"]) for s in seen] == [
        ("/models", "Bearer first"),
        ("/models", "Bearer second"),
    ]


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, b'{"detail": "Send a valid API key."}', "Send a valid API key. (here: --api-key"),
        (503, b'{"detail": "The models are being loaded."}', "The models are being loaded."),
        (404, b"nothing here", "HTTP 404"),
        (200, b"<html>", "is no agiqa service"),
        (200, b"[]", "is no agiqa service"),
        (200, b'{"models": [{"id": "gpt"}]}', "is no agiqa service"),
        (200, b'{"models": ["gpt"]}', "is no agiqa service"),
    ],
    ids=["key", "loading", "other server", "page", "list", "other models", "names"],
)
def test_a_refusal_of_the_service_is_one_clear_sentence(
    status: int, body: bytes, message: str
) -> None:
    with answering(status, body) as (url, _):
        result = run("models", "--server", url)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_service_that_is_not_there_is_one_clear_sentence() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = run("models", "--server", url)
    assert result.exit_code == 1
    assert f"no service answers at {url}" in result.output
    assert run("models", "--server", "ftp://somewhere").exit_code == 1


def test_push_uploads_and_prints_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, str, bool]] = []

    def upload(folder: Path, url: str, *, private: bool) -> str:
        asked.append((folder, url, private))
        return "https://huggingface.co/me/mine"

    monkeypatch.setattr(model.store.publish, "push", upload)
    result = run("push", tmp_path, "hf://me/mine", "--private")
    assert result.exit_code == 0, result.output
    assert result.output == "https://huggingface.co/me/mine\n"
    assert asked == [(tmp_path, "hf://me/mine", True)]


def test_push_to_no_repository_is_one_clear_sentence(tmp_path: Path) -> None:
    result = run("push", tmp_path, "somewhere")
    assert result.exit_code == 1
    assert "hf://owner/name" in result.output
    assert "Traceback" not in result.output


@pytest.fixture
def assembled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What ``model.store.assemble`` was called with, in place of its work."""
    calls: list[dict[str, Any]] = []

    def stand_in(method: str, out: Path, **options: Any) -> CheckpointConfig:
        if method == "clip-agiqa":
            raise CheckpointError("clip-agiqa must be trained")
        calls.append({"method": method, "out": out, **options})
        backbone = BackboneConfig(source="open_clip", name="RN50", pretrained="openai")
        name = options["name"] or out.name
        return CheckpointConfig(name=name, method=method, backbone=backbone, heads=("quality",))

    monkeypatch.setattr(model.store.assemble, "assemble", stand_in)
    monkeypatch.setattr(model.seal, "seal", lambda out: calls[-1].update(sealed=out))
    return calls


def test_assemble_hands_on_what_was_asked_and_says_how_to_serve_it(
    assembled: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    what = ["clip-iqa", "--out", out, "--architecture", "RN50", "--pretrained", "openai"]
    pairs = ["--pair", "quality=Good photo.|Bad photo.", "--pair", "warmth=Warm.|Cold."]
    result = run("assemble", *what, *pairs, "--crop-policy", "whole", "--name", "zero-shot")
    assert result.exit_code == 0, result.output
    assert assembled == [
        {
            "method": "clip-iqa",
            "out": out,
            "architecture": "RN50",
            "weights": None,
            "pretrained": "openai",
            "options": {
                "pairs": {"quality": ["Good photo.", "Bad photo."], "warmth": ["Warm.", "Cold."]}
            },
            "crop_policy": "whole",
            "name": "zero-shot",
            "sealed": out,
        }
    ]
    assert f"agiqa serve --model {out}" in result.output
    assert "zero-shot" in result.output


def test_assemble_takes_a_file_of_weights(assembled: list[dict[str, Any]], tmp_path: Path) -> None:
    weights = tmp_path / "liqe.pt"
    weights.write_bytes(b"weights")
    out = tmp_path / "liqe"
    result = run("assemble", "liqe", "--out", out, "--architecture", "X", "--weights", weights)
    assert result.exit_code == 0, result.output
    (call,) = assembled
    assert (call["weights"], call["pretrained"]) == (weights, None)
    assert (call["options"], call["crop_policy"], call["name"]) == ({}, None, None)


def test_a_method_that_must_be_trained_is_refused_with_the_model_s_own_words(
    assembled: list[dict[str, Any]], tmp_path: Path
) -> None:
    result = run("assemble", "clip-agiqa", "--out", tmp_path / "x", "--architecture", "X")
    assert result.exit_code == 1
    assert "clip-agiqa must be trained" in result.output


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("Good photo.|Bad photo.", "NAME=POSITIVE|NEGATIVE"),
        ("quality=Good photo.", "NAME=POSITIVE|NEGATIVE"),
        ("quality=Good photo.|", "NAME=POSITIVE|NEGATIVE"),
        ("quality=a|b|c", "NAME=POSITIVE|NEGATIVE"),
        ("=a|b", "NAME=POSITIVE|NEGATIVE"),
        ("first=c|d", "given twice"),
    ],
)
def test_a_pair_of_another_form_is_refused(pair: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as refusal:
        read_pairs(["first=a|b", pair])
    assert message in refusal.value.message


def test_a_text_of_a_pair_may_hold_an_equals_sign() -> None:
    assert read_pairs(["sum=1 + 1 = 2 | 1 + 1 = 3"]) == {"sum": ["1 + 1 = 2", "1 + 1 = 3"]}


def test_a_table_is_aligned_and_has_no_trailing_blanks() -> None:
    assert table([["a", "bbb"], ["cc", ""]]) == "a   bbb\ncc"


def test_a_checkpoint_is_sealed_and_its_scores_are_shown(tmp_path: Path) -> None:
    folder = photograph_model(tmp_path / "photographs")
    assert not read_config(folder).is_sealed
    result = run("seal", folder)
    assert result.exit_code == 0, result.output
    sealed = read_config(folder).self_test
    assert sealed is not None
    assert f"(photographs): quality {sealed.scores['quality']:.4f}" in result.output


def test_what_is_no_checkpoint_can_not_be_sealed(tmp_path: Path) -> None:
    result = run("seal", tmp_path)
    assert result.exit_code == 1
    assert "is not a valid checkpoint configuration" in result.output
    assert "Traceback" not in result.output
