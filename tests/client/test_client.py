"""The client, against a service that only answers."""

import io
import subprocess
import sys
from collections.abc import Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any

import httpx
import pytest

import agiqa_client
from agiqa_client import AgiqaError, AsyncClient, Client, Refused, Score
from tests.app.pictures import encoded, picture
from tests.client.calling import ANSWER, Answer, Kind, Scene, call, problem

ROOT = Path(__file__).parents[2]


def ok(**more: Any) -> httpx.Response:
    return httpx.Response(200, json=ANSWER | more)


def asked(kind: Kind, scene: Scene, how: dict[str, Any] | None = None, **given: Any) -> Any:
    """The result of one ``score``, or the error that it raised."""
    try:
        return call(kind, lambda c: c.score(b"bytes", **(how or {})), **scene.given(**given))
    except AgiqaError as error:
        return error


def test_it_needs_httpx_alone() -> None:
    code = "import sys, agiqa_client; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"app", "model", "training", "torch", "pydantic", "PIL", "numpy"}
    assert "httpx" in loaded


def test_a_score_has_the_fields_of_the_answer_and_keeps_new_ones(kind: Kind) -> None:
    more = {"scene": {"animal": 0.25}, "alignment": None, "novelty": 1, "detail": "Mind."}
    crops = [{"box": [0, 0, 224, 224], "score": 0.5}]
    score = asked(kind, Scene([ok(crop_scores=crops, **more)]), {"detail": True})
    assert (score.quality, score.mos, score.mos_range) == (0.75, 3.75, (0.0, 5.0))
    assert (score.crops, score.scaled, score.model.name, score.model.revision) == (
        *(9, False),
        *("tiny", "abc"),
    )
    assert score.scene == {"animal": 0.25}
    assert score.alignment is score.consistency is score.distortion is score.attributes is None
    assert score.crop_scores == (agiqa_client.CropScore((0, 0, 224, 224), 0.5),)
    assert score.raw["novelty"] == 1
    assert score.detail == "Mind."


def test_what_is_asked_for_is_sent(kind: Kind) -> None:
    scene = Scene([ok()])
    how = {"model": "other", "detail": True, "deadline": 2.5, "request_id": "mine"}
    given = scene.given(api_key="secret")
    call(kind, lambda c: c.score_agi(b"bytes", "a wave", **how), "localhost:1/here/", **given)
    (request,) = scene.requests
    assert str(request.url) == "http://localhost:1/here/score-agi?model=other&detail=true"
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["x-request-id"] == "mine"
    assert request.headers["x-request-timeout"] == "2.500"
    assert request.extensions["timeout"]["read"] == 2.5
    assert b"a wave" in request.content
    assert b"bytes" in request.content


def test_what_is_not_asked_for_is_not_sent(kind: Kind) -> None:
    scene = Scene([ok()])
    asked(kind, scene, timeout=7.0)
    (request,) = scene.requests
    assert request.url.query == b""
    assert not {"authorization", "x-request-id", "x-request-timeout"} & set(request.headers)
    assert request.extensions["timeout"]["read"] == 7.0


def test_the_key_comes_from_the_environment_unless_one_is_given(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGIQA_API_KEY", "of the environment")
    scene = Scene([ok()])
    for key in (None, "given", ""):
        asked(kind, scene, api_key=key)
    keys = [request.headers.get("authorization") for request in scene.requests]
    assert keys == ["Bearer of the environment", "Bearer given", None]


class _Drawn:
    """As much of Pillow's image as the client knows of."""

    def save(self, fp: io.BytesIO, format: str) -> None:
        fp.write(f"drawn as {format}".encode())


def images(folder: Path) -> Iterator[tuple[Any, str, bytes]]:
    """Each kind of image, with the name and the bytes that are sent."""
    file = folder / "photo.jpg"
    file.write_bytes(b"of a file")
    yield file, "photo.jpg", b"of a file"
    yield str(file), "photo.jpg", b"of a file"
    yield b"bytes", "image", b"bytes"
    yield io.BytesIO(b"of a buffer"), "image", b"of a buffer"
    yield file.open("rb"), "photo.jpg", b"of a file"
    yield picture(), "image", encoded(picture())
    yield _Drawn(), "image", b"drawn as PNG"


def test_an_image_is_a_path_bytes_a_file_or_what_can_save_itself(
    kind: Kind, tmp_path: Path
) -> None:
    for image, name, data in images(tmp_path):
        scene = Scene([problem(429), ok()])
        call(kind, methodcaller("score", image), **scene.given())
        for request in scene.requests:
            assert f'filename="{name}"'.encode() in request.content
            assert data in request.content
        if isinstance(image, io.IOBase):
            image.close()
    with pytest.raises(TypeError, match="int is no image"):
        call(kind, lambda c: c.score(3), **Scene([ok()]).given())
    with pytest.raises(FileNotFoundError):
        call(kind, lambda c: c.score(tmp_path / "none.jpg"), **Scene([ok()]).given())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, agiqa_client.Refused),
        (401, agiqa_client.Refused),
        (404, agiqa_client.Refused),
        (415, agiqa_client.Refused),
        (429, agiqa_client.Overloaded),
        (500, agiqa_client.Failed),
        (502, agiqa_client.Failed),
        (503, agiqa_client.Unavailable),
        (504, agiqa_client.DeadlineExceeded),
    ],
)
def test_an_error_speaks_in_the_service_s_words(
    kind: Kind, status: int, error: type[AgiqaError]
) -> None:
    answer = problem(status, "some_code", **{"X-Request-ID": "r2", "Retry-After": "3"})
    raised = asked(kind, Scene([answer]), retries=0)
    assert type(raised) is error
    assert str(raised) == raised.detail == "Sentence of some_code."
    assert (raised.code, raised.status, raised.request_id) == ("some_code", status, "r2")
    assert raised.retry_after == 3


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"title": "no detail"}', b"\xff"])
def test_a_refusal_without_a_sentence_gives_the_status(kind: Kind, body: bytes) -> None:
    raised = asked(kind, Scene([httpx.Response(404, content=body)]))
    assert str(raised) == "HTTP 404 Not Found"
    assert isinstance(raised, Refused)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"quality": 1}', b"null"])
def test_an_answer_of_somebody_else_is_a_failure(kind: Kind, body: bytes) -> None:
    raised = asked(kind, Scene([httpx.Response(200, content=body)]))
    assert isinstance(raised, agiqa_client.Failed)
    assert "is no agiqa service" in str(raised)


@pytest.mark.parametrize("status", [500, 502])
def test_what_a_front_answers_whose_replica_died_is_tried_again(kind: Kind, status: int) -> None:
    died = httpx.Response(
        status, content=b"The actor died unexpectedly before finishing this task."
    )
    scene = Scene([died, ok()])
    assert call(kind, lambda c: c.score(b"image"), **scene.given()).quality == 0.75
    assert len(scene.requests) == 2
    assert isinstance(asked(kind, Scene([died])), agiqa_client.Failed)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 415, 422, 500, 504])
def test_what_does_not_pass_is_not_tried_again(kind: Kind, status: int) -> None:
    scene = Scene([problem(status), ok()])
    assert isinstance(asked(kind, scene), AgiqaError)
    assert len(scene.requests) == 1


@pytest.mark.parametrize(
    "passing",
    [
        *(problem(429), problem(503)),
        *(httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.ConnectTimeout("")),
        httpx.RemoteProtocolError("went away"),
    ],
    ids=["429", "503", "refused", "reset", "connect timeout", "went away"],
)
def test_what_passes_is_tried_again_after_growing_pauses(kind: Kind, passing: Answer) -> None:
    scene = Scene([passing] * 3 + [ok()])
    assert isinstance(asked(kind, scene), Score)
    assert scene.slept == [0.5, 1.0, 2.0]
    contents = [request.content.split(b"\r\n", 1)[1][:60] for request in scene.requests]
    assert len(contents) == 4
    assert len(set(contents)) == 1


def test_pauses_are_bounded_and_tries_are_counted(kind: Kind) -> None:
    scene = Scene([problem(429)])
    assert isinstance(asked(kind, scene, retries=6), agiqa_client.Overloaded)
    assert scene.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    scene = Scene([httpx.ConnectError("refused")])
    raised = asked(kind, scene, retries=1)
    assert isinstance(raised, agiqa_client.Unreachable)
    assert str(raised) == "no service answers at http://127.0.0.1:8000 (refused)"
    assert len(scene.requests) == 2


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"Retry-After": "8"}, 10.0),
        ({"Retry-After": "0"}, 0.0),
        (
            {
                "Date": "Sun, 06 Nov 1994 08:49:30 GMT",
                "Retry-After": "Sun, 06 Nov 1994 08:49:38 GMT",
            },
            10.0,
        ),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({"Retry-After": "soon"}, 0.5),
    ],
    ids=["seconds", "at once", "date", "past", "nonsense"],
)
def test_it_comes_back_when_it_shall_and_up_to_a_quarter_later(
    kind: Kind, headers: dict[str, str], pause: float
) -> None:
    scene = Scene([problem(429, **headers), ok()])
    asked(kind, scene)
    assert scene.slept == [pause]


def test_a_pause_longer_than_the_timeout_is_not_waited_for(kind: Kind) -> None:
    scene = Scene([problem(503, **{"Retry-After": "3600"}), ok()])
    raised = asked(kind, scene)
    assert isinstance(raised, agiqa_client.Unavailable)
    assert raised.retry_after == 3600
    assert scene.slept == []


def test_the_deadline_covers_all_tries_and_the_service_is_told_what_is_left(kind: Kind) -> None:
    scene = Scene([problem(429, **{"Retry-After": "1"})], seconds_per_answer=0.25)
    raised = asked(kind, scene, {"deadline": 5.0}, retries=99)
    assert isinstance(raised, agiqa_client.Overloaded)
    timeouts = [request.headers["x-request-timeout"] for request in scene.requests]
    assert timeouts == ["5.000", "3.500", "2.000", "0.500"]
    waited_for = [request.extensions["timeout"]["read"] for request in scene.requests]
    assert waited_for == [5.0, 3.5, 2.0, 0.5]
    assert scene.time - 1000.0 <= 5.0


def test_a_deadline_that_has_passed_sends_nothing(kind: Kind) -> None:
    scene = Scene([ok()])
    assert isinstance(asked(kind, scene, {"deadline": 0.0}), agiqa_client.DeadlineExceeded)
    assert scene.requests == []


def test_no_answer_in_time_is_a_deadline_and_is_not_tried_again(kind: Kind) -> None:
    scene = Scene([httpx.ReadTimeout("")])
    raised = asked(kind, scene, {"deadline": 1.5})
    assert isinstance(raised, agiqa_client.DeadlineExceeded)
    assert str(raised) == "No answer came within 1.5 s; allow more time."
    assert len(scene.requests) == 1


def test_a_batch_gives_an_error_in_place_of_each_image_without_a_score(kind: Kind) -> None:
    bad = {"filename": "b", "detail": "No image.", "code": "unsupported_image", "status": 415}
    busy = bad | {"code": "overloaded", "status": 429, "retry_after": 4}
    items = [ANSWER, bad | {"request_id": "r"}, busy]
    scene = Scene([httpx.Response(200, json={"results": items})])
    given = scene.given(retries=0)
    results = call(kind, lambda c: c.score_batch([b"one", b"two", b"three"]), **given)
    assert isinstance(results[0], Score)
    assert isinstance(results[1], Refused)
    assert (results[1].code, results[1].request_id) == ("unsupported_image", "r")
    assert (results[1].retry_after, results[2].retry_after) == (None, 4)
    call(kind, lambda c: c.score_agi_batch([b"one", b"two"], ["a wave", None]), **scene.given())
    assert scene.requests[-1].content.count(b'name="prompts"') == 2
    call(kind, lambda c: c.score_agi_batch([b"one", b"two"]), **scene.given())
    assert scene.requests[-1].content.count(b'name="prompts"') == 0


def test_models_are_described(kind: Kind) -> None:
    body = {"name": "m", "method": "liqe", "heads": ["quality"], "default_for": ["/score"], "x": 1}
    scene = Scene([httpx.Response(200, json={"models": [body]})])
    (model,) = call(kind, lambda c: c.models(), **scene.given())
    assert (model.name, model.method) == ("m", "liqe")
    assert (model.heads, model.default_for) == (("quality",), ("/score",))
    assert model.raw == body


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (httpx.Response(200, json={"status": "ready"}), True),
        (problem(503, "loading", **{"Retry-After": "1"}), False),
        (httpx.ConnectError("refused"), False),
        (httpx.ReadTimeout(""), False),
    ],
    ids=["ready", "loading", "not there", "silent"],
)
def test_ready_is_asked_once(kind: Kind, answer: Answer, ready: bool) -> None:
    scene = Scene([answer])
    assert call(kind, lambda c: c.ready(), **scene.given()) is ready
    assert len(scene.requests) == 1


def test_waiting_for_readiness_asks_at_short_intervals_until_the_time_is_up(kind: Kind) -> None:
    answers: list[Answer] = [httpx.ConnectError("refused")] * 3
    answers += [problem(503, "loading", **{"Retry-After": "1"})] * 9
    scene = Scene([*answers, httpx.Response(200, json={})])
    call(kind, lambda c: c.wait_until_ready(10.0), **scene.given(retries=0))
    assert scene.slept == [0.25] * 12
    scene = Scene([problem(503, "loading")])
    with pytest.raises(agiqa_client.Unavailable, match="loading"):
        call(kind, lambda c: c.wait_until_ready(1.0), **scene.given())
    assert scene.time - 1000.0 <= 1.0


@pytest.mark.parametrize("url", ["ftp://somewhere", "http://", "localhost:abc", "http://[::1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    for client in (Client, AsyncClient):
        with pytest.raises(ValueError, match=r"address|Port|IPv6"):
            client(url)


def test_a_redirect_is_followed_where_nothing_is_sent(kind: Kind) -> None:
    elsewhere = httpx.Response(302, headers={"Location": "http://127.0.0.1:8000/elsewhere"})
    scene = Scene([elsewhere, httpx.Response(200, json={"models": []})])
    assert call(kind, lambda c: c.models(), **scene.given()) == []
    raised = asked(kind, Scene([elsewhere, ok()]))
    assert isinstance(raised, Refused)
    assert str(raised) == "HTTP 302 Found"


def test_both_clients_have_the_same_calls_with_the_same_documentation() -> None:
    calls = {name for name in vars(AsyncClient) if not name.startswith("_")} - {"aclose"}
    assert calls == {name for name in vars(Client) if not name.startswith("_")} - {"close"}
    for name in calls - {"score_many"}:
        assert getattr(Client, name).__doc__ == getattr(AsyncClient, name).__doc__


def test_it_can_be_copied_as_one_file(tmp_path: Path) -> None:
    (tmp_path / "agiqa_client.py").write_bytes((ROOT / "agiqa_client.py").read_bytes())
    code = "import agiqa_client as a; print(a.__file__, a.Client().ready.__name__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == [str(tmp_path / "agiqa_client.py"), "ready"]
