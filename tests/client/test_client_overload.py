"""Classes, and the images of a batch that a busy service refuses."""

from operator import methodcaller
from typing import Any

import httpx
import pytest

from agiqa_client import Item, Overloaded, Refused, Score, Unavailable
from tests.client.calling import ANSWER, Kind, Scene, call, problem
from tests.client.test_client_many import many

BUSY = {"filename": "b", "detail": "Busy.", "code": "overloaded", "status": 429, "retry_after": 4}
DOWN = BUSY | {"code": "worker_down", "status": 503, "retry_after": 1}
BAD = {"filename": "c", "detail": "No image.", "code": "unsupported_image", "status": 415}


def batch(*items: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"results": list(items)})


def scored(quality: float) -> dict[str, Any]:
    return ANSWER | {"quality": quality}


@pytest.mark.parametrize(
    ("of_client", "of_call", "sent"),
    [
        (None, None, None),
        (None, "bulk", "bulk"),
        ("bulk", None, "bulk"),
        ("bulk", "interactive", "interactive"),
    ],
)
def test_the_class_of_a_call_is_sent_as_it_was_chosen(
    kind: Kind, of_client: Any, of_call: Any, sent: str | None
) -> None:
    scene = Scene([httpx.Response(200, json=ANSWER)])
    given = scene.given(priority=of_client)
    call(kind, methodcaller("score", b"x", priority=of_call), **given)
    assert scene.requests[-1].headers.get("x-priority") == sent


def test_many_images_have_the_class_of_the_call(kind: Kind) -> None:
    scene = Scene([httpx.Response(200, json=ANSWER)])
    many(kind, scene, [Item(b"x")] * 2, priority="bulk")
    assert [r.headers["x-priority"] for r in scene.requests] == ["bulk", "bulk"]


def test_images_of_a_batch_that_were_refused_for_a_while_are_sent_again_alone(kind: Kind) -> None:
    answers = [batch(scored(0.1), BUSY, BAD, DOWN), batch(scored(0.2), DOWN), batch(scored(0.3))]
    scene = Scene(list(answers))
    images, prompts = [b"one", b"two", b"three", b"four"], ["first", "second", "third", None]
    work = methodcaller("score_agi_batch", images, prompts)
    results = call(kind, work, **scene.given())
    assert [r.quality if isinstance(r, Score) else type(r) for r in results] == [
        0.1,
        0.2,
        Refused,
        0.3,
    ]
    # After the longest wait of all, and up to a quarter more.
    assert scene.slept == [5.0, 1.25]
    sent = [request.content for request in scene.requests]
    assert [body.count(b'name="images"') for body in sent] == [4, 2, 1]
    assert [body.count(b'name="prompts"') for body in sent] == [4, 2, 1]
    assert b"second" in sent[1]
    assert b"first" not in sent[1]


def test_images_that_stay_refused_have_their_error_when_the_tries_are_used_up(kind: Kind) -> None:
    scene = Scene([batch(scored(0.1), BUSY), batch(BUSY)])
    given = scene.given(retries=2)
    results = call(kind, methodcaller("score_batch", [b"one", b"two"]), **given)
    assert isinstance(results[0], Score)
    assert isinstance(results[1], Overloaded)
    assert results[1].retry_after == 4
    assert len(scene.requests) == 3


def test_a_whole_batch_and_its_images_share_the_tries(kind: Kind) -> None:
    scene = Scene([problem(503), batch(scored(0.1), DOWN), problem(429), batch(DOWN)])
    results = call(kind, methodcaller("score_batch", [b"a", b"b"]), **scene.given(retries=3))
    assert isinstance(results[1], Unavailable)
    assert len(scene.requests) == 4


def test_the_deadline_of_a_batch_bounds_the_tries_of_its_images(kind: Kind) -> None:
    scene = Scene([batch(scored(0.1), DOWN), batch(DOWN), batch(BUSY)])
    work = methodcaller("score_batch", [b"one", b"two"], deadline=6.0)
    results = call(kind, work, **scene.given())
    assert isinstance(results[1], Overloaded)
    assert scene.slept == [1.25, 1.25]  # five seconds more do not fit
    timeouts = [float(r.headers["x-request-timeout"]) for r in scene.requests]
    assert timeouts == [6.0, 4.75, 3.5]


def test_what_fails_on_a_later_try_keeps_the_scores_of_the_first(kind: Kind) -> None:
    scene = Scene([batch(scored(0.1), DOWN), problem(413, "too_large")])
    results = call(kind, methodcaller("score_batch", [b"one", b"two"]), **scene.given())
    assert isinstance(results[0], Score)
    assert isinstance(results[1], Refused)
    assert results[1].code == "too_large"
