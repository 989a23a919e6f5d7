"""The client against the real service."""

import asyncio
import socket
import threading
import time
from contextlib import closing
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest

import agiqa_client
from agiqa_client import AsyncClient, Client, Item, Refused, Score
from tests.app import pictures
from tests.app.pictures import encoded, picture
from tests.app.server import Running, serving
from tests.client.calling import Kind, call
from tests.figures import SCORE

pytestmark = pytest.mark.integration


def test_scores_are_those_of_the_http_interface(kind: Kind, service: Running) -> None:
    image = encoded(picture(512, 512))
    score = call(kind, lambda c: c.score(image, detail=True), service.url)
    answer = service.client.post("/score", files={"image": image}).json()
    assert score.raw.keys() == answer.keys() | {"crop_scores"}
    assert score.quality == pytest.approx(answer["quality"], abs=1e-5)
    assert score.scene == pytest.approx(answer["scene"], abs=1e-5)
    assert len(score.crop_scores) == score.crops == 4
    assert score.model.name == "tiny-mpiqe"


def test_the_prompt_counts(kind: Kind, service: Running) -> None:
    scores = [
        call(kind, methodcaller("score_agi", picture(), prompt), service.url)
        for prompt in ("a tray of sushi", "portrait of a ghost", None)
    ]
    assert scores[0].consistency != scores[1].consistency
    assert scores[2].consistency is None
    assert scores[0].model.name == "tiny-clip-agiqa"
    assert 0 <= scores[0].alignment <= 1


def test_a_batch_has_a_result_for_each_image(kind: Kind, service: Running) -> None:
    images = [picture(seed=1), pictures.SVG, encoded(picture(seed=2), "JPEG")]
    results = call(kind, lambda c: c.score_batch(images, model="tiny-clip-agiqa"), service.url)
    assert [type(result) for result in results] == [Score, Refused, Score]
    assert results[1].code == "unsupported_image"
    assert results[1].status == 415
    prompts = ["a wave", None, ""]
    images[1] = images[0]
    results = call(kind, lambda c: c.score_agi_batch(images, prompts), service.url)
    assert [result.consistency is None for result in results] == [False, True, True]


@pytest.mark.parametrize(
    ("image", "how", "code", "status"),
    [
        (pictures.SVG, {}, "unsupported_image", 415),
        (encoded()[:200], {}, "unreadable_image", 400),
        (encoded(), {"model": "nobody"}, "unknown_model", 404),
    ],
    ids=["svg", "cut off", "unknown model"],
)
def test_a_refusal_has_the_service_s_code_and_id(
    kind: Kind, service: Running, image: bytes, how: dict[str, Any], code: str, status: int
) -> None:
    with pytest.raises(Refused) as refused:
        call(kind, lambda c: c.score(image, request_id="of-mine", **how), service.url)
    assert (refused.value.code, refused.value.status) == (code, status)
    assert refused.value.request_id == "of-mine"
    assert str(refused.value)


def test_a_deadline_too_near_is_exceeded_or_refused_in_time(kind: Kind, service: Running) -> None:
    image = encoded(picture(2048, 2048))
    with pytest.raises((agiqa_client.DeadlineExceeded, agiqa_client.Overloaded)):
        call(kind, lambda c: c.score(image, deadline=0.02), service.url)
    service.wait_until(lambda: service.metric("agiqa_requests_in_flight") <= 1)


def test_models_and_readiness(kind: Kind, service: Running) -> None:
    models = call(kind, lambda c: c.models(), service.url)
    assert {model.name: model.default_for for model in models} == {
        "tiny-mpiqe": ("/score",),
        "tiny-clip-agiqa": ("/score-agi",),
    }
    assert models[0].raw == service.client.get("/models").json()["models"][0]
    assert call(kind, lambda c: c.ready(), service.url) is True


def test_many_images_have_the_scores_that_each_has_alone(service: Running) -> None:
    images = [picture(seed=seed) for seed in range(6)]
    items = [Item(image, "a wave") for image in images] + [Item(b"no image")]
    with Client(service.url) as client:
        alone = [client.score_agi(image, "a wave") for image in images]
        pairs = list(client.score_many(items, concurrency=3))
    assert [item for item, _ in pairs] == items
    for (_, result), one in zip(pairs, alone, strict=False):
        assert isinstance(result, Score)
        assert result.consistency == pytest.approx(one.consistency, abs=SCORE)
    assert isinstance(pairs[-1][1], Refused)


def test_a_cancelled_call_closes_its_connection_and_the_service_drops_the_work(
    service: Running,
) -> None:
    gone = service.metric("agiqa_request_failures_total", reason="client_gone")

    async def cancelled() -> None:
        async with AsyncClient(service.url) as client:
            work = asyncio.create_task(client.score_batch([encoded(picture(1024, 1024))] * 7))
            while service.metric("agiqa_queue_crops") == 0:
                assert not work.done()
                await asyncio.sleep(0.02)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work

    asyncio.run(cancelled())
    service.wait_until(
        lambda: service.metric("agiqa_request_failures_total", reason="client_gone") > gone
    )


def test_a_busy_service_is_asked_again_until_it_has_room(tmp_path: Path) -> None:
    """One that holds few crops at once refuses most of 16 simultaneous requests at first."""
    with serving(tmp_path, {"AGIQA_MAX_ROWS": "60", "AGIQA_API_KEYS": "secret"}) as running:
        with Client(running.url, api_key="wrong") as client, pytest.raises(Refused) as refused:
            client.models()
        assert refused.value.code == "unauthorized"
        with Client(running.url, api_key="secret", retries=100) as client:
            items = [Item(encoded(picture(512, 512)), endpoint="score") for _ in range(16)]
            results = [result for _, result in client.score_many(items, concurrency=16)]
        assert all(isinstance(result, Score) for result in results)
        assert running.metric("agiqa_request_failures_total", reason="overloaded") > 0


def test_a_service_that_starts_late_is_waited_for(kind: Kind, tmp_path: Path) -> None:
    with serving(tmp_path, wait=False) as running:
        call(kind, lambda c: c.wait_until_ready(120.0), running.url)
        assert running.client.get("/readyz").status_code == 200


def test_a_service_that_listens_late_is_tried_until_it_does(kind: Kind) -> None:
    """The address refuses connections at first; then somebody answers there."""
    with closing(socket.socket()) as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
        refused = threading.Event()

        def sleep(seconds: float) -> None:
            if not refused.is_set():
                refused.set()
                door.listen()
                threading.Thread(target=_answer, args=(door,), daemon=True).start()

        async def sleep_async(seconds: float) -> None:
            sleep(seconds)

        clock = agiqa_client.Clock(time.monotonic, sleep, sleep_async)
        models = call(kind, lambda c: c.models(), f"127.0.0.1:{port}", clock=clock)
    assert refused.is_set()
    assert models == []


def _answer(door: socket.socket) -> None:
    connection, _ = door.accept()
    with connection:
        connection.recv(65536)
        body = b'{"models": []}'
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
