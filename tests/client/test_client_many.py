"""Many images through the client, against a service that only answers."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agiqa_client import AsyncClient, Client, Item, Refused, Score
from tests.client.calling import ANSWER, Kind, Scene, problem


def ok() -> httpx.Response:
    return httpx.Response(200, json=ANSWER)


def many(kind: Kind, scene: Scene, items: Any, **how: Any) -> list[Any]:
    if kind == "sync":
        with Client(**scene.given()) as client:
            return list(client.score_many(items, **how))

    async def collected() -> list[Any]:
        async with AsyncClient(**scene.given()) as client:
            return [pair async for pair in client.score_many(items, **how)]

    return asyncio.run(collected())


def test_many_items_come_back_in_order_with_their_results(kind: Kind, tmp_path: Path) -> None:
    items = [
        Item(b"one", "a wave", model="other"),
        Item(tmp_path / "none.jpg"),
        Item(b"two", endpoint="score"),
    ]
    scene = Scene([ok()])
    pairs = many(kind, scene, iter(items), concurrency=1, deadline=3.0)
    assert [item for item, _ in pairs] == items
    assert [type(result) for _, result in pairs] == [Score, Refused, Score]
    assert pairs[1][1].code == "bad_field"
    assert "none.jpg" in str(pairs[1][1])
    paths = [request.url.raw_path for request in scene.requests]
    assert paths == [b"/score-agi?model=other", b"/score"]
    assert [request.headers["x-request-timeout"] for request in scene.requests] == ["3.000"] * 2
    assert many(kind, scene, []) == []


def test_an_item_that_fails_does_not_keep_the_others_from_their_scores(kind: Kind) -> None:
    scene = Scene([ok(), problem(415), ok()])
    pairs = many(kind, scene, [Item(b"x")] * 3, concurrency=1)
    assert [type(result) for _, result in pairs] == [Score, Refused, Score]


def test_many_items_are_taken_as_room_comes() -> None:
    taken: list[int] = []

    def items() -> Iterator[Item]:
        for number in range(100):
            taken.append(number)
            yield Item(b"x")

    with Client(**Scene([ok()]).given()) as client:
        results = client.score_many(items(), concurrency=2)
        next(results)
        assert len(taken) <= 5
        next(results)
        assert len(taken) <= 6
        results.close()
    assert len(taken) <= 6


def test_no_more_than_the_given_number_are_under_way_at_once(kind: Kind) -> None:
    under_way, most, three = 0, 0, asyncio.Event()

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            three.set()
        # However slowly images are read, three meet here; a fourth has time to come as well.
        await asyncio.wait_for(three.wait(), 30)
        await asyncio.sleep(0.01)
        under_way -= 1
        return ok()

    scene = Scene([ok()])
    scene.handle = handle  # type: ignore[method-assign, assignment]
    assert len(many(kind, scene, [Item(b"x")] * 20, concurrency=3)) == 20
    assert most == 3


def test_an_error_of_the_items_themselves_reaches_the_caller(kind: Kind) -> None:
    def items() -> Iterator[Item]:
        yield Item(b"x")
        raise RuntimeError("no more prompts")

    with pytest.raises(RuntimeError, match="no more prompts"):
        many(kind, Scene([ok()]), items())


def test_closing_the_iterator_gives_up_what_is_under_way_and_ends_its_thread() -> None:
    gone: list[str] = []
    started = threading.Event()

    async def handle(request: httpx.Request) -> httpx.Response:
        if b"first" in await request.aread():
            return ok()
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            gone.append("given up")
            raise
        raise AssertionError

    before = set(threading.enumerate())
    with Client(transport=httpx.MockTransport(handle)) as client:
        results = client.score_many([Item(b"first"), Item(b"second")], concurrency=2)
        assert isinstance(next(results)[1], Score)
        assert started.wait(10)
        results.close()
    assert gone == ["given up"]
    assert {
        t for t in set(threading.enumerate()) - before if not t.name.startswith("asyncio")
    } == set()
