"""``agiqa score --server``: the same rows through a running service."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.bulk.tables import read
from model.config import HEADS
from tests.app.bulk.scored import agiqa
from tests.app.pictures import SVG, encoded, picture
from tests.app.server import Running, free_port

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("images")
    for number in range(4):
        image = encoded(picture(300 + 40 * number, 260, seed=number))
        (place / f"{number}.png").write_bytes(image)
    (place / "bad.png").write_bytes(SVG)
    return place


def test_rows_are_those_of_this_machine(service: Running, folder: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    options = ("score", folder, "--prompt", "a wave")
    pinned = ("--device", "cpu", "--dtype", "float32")
    assert agiqa(*options, "-o", here, *pinned).exit_code == 3
    result = agiqa(*options, "-o", there, "--server", service.url, "--concurrency", 3)
    assert result.exit_code == 3, result.output
    for own, other in zip(read(here), read(there), strict=True):
        for name in (*HEADS, "mos"):
            expected = own.pop(name)
            tolerance = 5e-4 if name == "mos" else 1e-4
            close = expected if expected is None else pytest.approx(expected, abs=tolerance)
            assert other.pop(name) == close
        assert own.pop("detail") or not other["detail"]
        other.pop("detail")
        assert own == other


def test_a_run_here_can_be_resumed_there(service: Running, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    quality = ("--heads", "quality", "-o", out)
    assert agiqa("score", folder / "0.png", *quality).exit_code == 0
    options = (*quality, "--resume", "--server", service.url, "-m", "tiny-clip-agiqa")
    assert agiqa("score", folder / "0.png", folder / "1.png", *options).exit_code == 0
    first, second = read(out)
    assert first["alignment"] is second["alignment"] is None
    assert second["quality"] is not None


def test_quality_alone_is_asked_of_the_cheaper_endpoint(
    service: Running, folder: Path, tmp_path: Path
) -> None:
    def asked(endpoint: str) -> float:
        return service.metric("agiqa_requests_total", endpoint=endpoint, code="200")

    score, agi = asked("/score"), asked("/score-agi")
    options = ("--server", service.url, "-o", tmp_path / "scores.csv")
    agiqa("score", folder / "0.png", folder / "1.png", *options, "--heads", "quality")
    assert (asked("/score"), asked("/score-agi")) == (score + 2, agi)
    agiqa("score", folder / "0.png", *options, "--heads", "alignment", "--overwrite")
    assert (asked("/score"), asked("/score-agi")) == (score + 2, agi + 1)
    (row,) = read(tmp_path / "scores.csv")
    assert row["quality"] is None
    assert row["alignment"] is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-m", "huge"], "no model 'huge'; it has loaded tiny-clip-agiqa"),
        (["--device", "cpu"], "--device: with --server"),
    ],
    ids=["model", "local option"],
)
def test_what_the_service_has_not_is_one_sentence(
    service: Running, folder: Path, options: list[str], message: str
) -> None:
    result = agiqa("score", folder, "--server", service.url, *options)
    assert result.exit_code == 1
    assert message in result.output


def test_a_service_that_is_not_there_is_one_sentence(folder: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = agiqa("score", folder, "--server", url)
    assert result.exit_code == 1
    assert f"no service answers at {url}" in result.output
    assert "Traceback" not in result.output
    wrong = agiqa("score", folder, "--server", "ftp://here")
    assert wrong.exit_code == 1
    assert "give an address like" in wrong.output


class Guarded(BaseHTTPRequestHandler):
    """A service that wants a key, answers GET /models, and hangs up on all else."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != "Bearer secret":
            self._answer(401, b'{"detail": "Send a valid API key.", "code": "unauthorized"}')
            return
        self._answer(
            200,
            b'{"models": [{"name": "m", "revision": "1", "method": "none", "backbone": "own",'
            b'"trained_on": [], "metrics": {}, "score_range": [0, 1], "heads": ["quality"],'
            b'"crop_policy": {"kind": "grid"}, "default_for": ["/score", "/score-agi"]}]}',
        )

    def do_POST(self) -> None:
        self.close_connection = True

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def guarded() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_key_is_asked_for_and_taken_from_the_environment(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scores.csv"
    monkeypatch.delenv("AGIQA_API_KEY", raising=False)
    with guarded() as url:
        refused = agiqa("score", folder, "--server", url)
        assert refused.exit_code == 1
        assert "--api-key, or AGIQA_API_KEY" in refused.output
        monkeypatch.setenv("AGIQA_API_KEY", "secret")
        options = ("--server", url, "-o", out, "--concurrency", 2, "--deadline", 0.2)
        gone = agiqa("score", *[folder] * 2, *options)
    assert gone.exit_code == 3
    assert "no service answers at" in gone.output
    assert "go on with the same command and --resume" in gone.output
    assert [row["code"] for row in read(out)] == ["unreachable"] * 5
