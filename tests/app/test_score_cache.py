"""The cache of scores, over HTTP, around the whole service on a device without a process."""

import asyncio
import dataclasses
import gc
import tracemalloc
from typing import Any

import httpx
import pytest

from app.batching.batcher import DeviceError
from app.batching.errors import Overloaded
from app.batching.jobs import Batch, Fault
from app.score_cache import MEAN_BYTES, score_bytes
from model.scores import Score
from tests.app.fake_device import (
    GENERATED,
    QUALITY,
    SETTINGS,
    SMALL,
    FakeDevice,
    Served,
    loaded,
    run,
    served,
    until,
)
from tests.app.pictures import encoded, picture

CACHED = SETTINGS.model_copy(update={"cache_answers": 100})
REQUESTS = "agiqa_answer_cache_requests_total"
OTHER = encoded(picture(224, 224, seed=1))


def counts(here: Served) -> tuple[float, ...]:
    """Of hits, of those who joined, and of misses."""
    results = ("hit", "joined", "miss")
    return tuple(here.metric(REQUESTS, result=result) for result in results)


async def send(
    here: Served,
    data: bytes = SMALL,
    path: str = "/score-agi",
    prompt: str = "a fox",
    name: str = "a.png",
    **headers: str,
) -> httpx.Response:
    files, fields = {"image": (name, data)}, {"prompt": prompt}
    return await here.client.post(path, files=files, data=fields, headers=headers)


async def batch(here: Served, *images: bytes, **headers: str) -> httpx.Response:
    files = [("images", (f"{number}.png", data)) for number, data in enumerate(images)]
    fields = {"prompts": ["a fox"] * len(images)}
    return await here.client.post("/score-agi/batch", files=files, data=fields, headers=headers)


async def waiting(here: Served, **labels: float) -> None:
    """Until as many requests joined another one, or computed, and wait."""
    cache = here.app.state.service.scoring.cache

    def waits() -> int:
        callbacks = [c.outcome._callbacks or [] for all_ in cache._under_way.values() for c in all_]
        return sum(map(len, callbacks))

    await until(lambda: waits() == labels["for_others"])


def test_the_same_image_is_computed_once_whatever_its_name() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, CACHED) as here:
            first = await send(here)
            second = await send(here, name="b.png", prompt=" a fox ")
            assert first.json() == second.json()
            assert second.status_code == 200
            assert len(device.batches) == 1
            assert counts(here) == (1, 0, 1)
            assert here.metric("agiqa_answer_cache_entries") == 1
            assert 0 < here.metric("agiqa_answer_cache_bytes") <= MEAN_BYTES
            assert here.metric("agiqa_score_count", model="fake", head="quality") == 2

    run(scenario)


def test_without_the_setting_nothing_is_kept() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device) as here:
            answers = [await send(here) for _ in range(2)]
            assert len(device.batches) == 2
            assert counts(here) == (0, 0, 0)
            assert "cache" not in answers[1].headers["server-timing"]

    run(scenario)


@pytest.mark.parametrize(
    "other",
    [{"data": OTHER}, {"prompt": "a dog"}, {"prompt": ""}, {"path": "/score"}],
    ids=["bytes", "prompt", "no prompt", "heads"],
)
def test_another_image_prompt_or_endpoint_is_another_score(other: dict[str, Any]) -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, CACHED) as here:
            await send(here)
            assert (await send(here, **other)).status_code == 200
            assert len(device.batches) == 2

    run(scenario)


def test_a_prompt_that_no_head_compares_with_is_no_part_of_what_is_asked() -> None:
    async def scenario() -> None:
        device = FakeDevice(loaded("quality", "alignment"))
        async with served(device, CACHED) as here:
            await send(here, prompt="a fox")
            await send(here, prompt="a dog")
            assert len(device.batches) == 1

    run(scenario)


def test_each_model_has_scores_of_its_own() -> None:
    async def scenario() -> None:
        device = FakeDevice(GENERATED, loaded("quality", name="other"))
        async with served(device, CACHED) as here:
            for path in ("/score?model=fake", "/score?model=other", "/score?model=other"):
                answer = await send(here, path=path)
                assert answer.json()["model"]["name"] == path.rpartition("=")[2]
            assert len(device.batches) == 2

    run(scenario)


def test_header_and_access_line_say_how_the_cache_had_it(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, CACHED) as here:
            miss = (await send(here)).headers["server-timing"]
            hit = (await send(here)).headers["server-timing"]
            assert "cache;dur=" in miss
            assert "cache;desc=hit;dur=" in hit
            assert "inference" not in hit
            mixed = await batch(here, SMALL, OTHER, SMALL)
            assert "cache;dur=" in mixed.headers["server-timing"]

    caplog.set_level("INFO", "agiqa.access")
    run(scenario)
    lines = [vars(record) for record in caplog.records if record.name == "agiqa.access"]
    assert [line.get("cached") for line in lines] == [None, 1, 2]


def test_those_who_ask_while_it_is_computed_wait_for_it_and_hold_no_room() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, CACHED) as here:
            device.gate.clear()
            tasks = [asyncio.create_task(send(here)) for _ in range(5)]
            await waiting(here, for_others=4)
            await until(lambda: device.images == 1)
            admission = here.app.state.service.admission
            assert (admission.cost, admission._lines["interactive"].__len__()) == (3, 1)
            device.gate.set()
            answers = await asyncio.gather(*tasks)
            assert [answer.json()["quality"] for answer in answers] == [QUALITY] * 5
            assert device.images == 1
            assert counts(here) == (0, 4, 1)
            how = [answer.headers["server-timing"] for answer in answers]
            assert sum("cache;desc=joined;dur=" in header for header in how) == 4

    run(scenario)


def test_a_client_that_leaves_takes_nobody_with_it() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, CACHED) as here:
            device.up = False  # what was not handed over is not computed
            first = asyncio.create_task(send(here))
            await until(lambda: here.metric("agiqa_queue_requests") == 1)
            others = [asyncio.create_task(send(here)) for _ in range(3)]
            await waiting(here, for_others=3)
            first.cancel()
            await waiting(here, for_others=2)
            await until(lambda: here.metric("agiqa_queue_requests") == 1)
            device.come_up()
            assert {answer.status_code for answer in await asyncio.gather(*others)} == {200}
            assert device.images == 1

    run(scenario)


def test_a_deadline_that_passes_is_that_of_one_request_alone() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, CACHED) as here:
            device.gate.clear()
            late = asyncio.create_task(send(here, SMALL, **{"X-Request-Timeout": "0.3"}))
            await until(lambda: device.images == 1)
            patient = asyncio.create_task(send(here))
            await waiting(here, for_others=1)
            assert (await late).status_code == 504
            await until(lambda: counts(here)[2] == 2)
            device.gate.set()
            assert (await patient).status_code == 200

    run(scenario)


def test_an_image_that_cannot_be_decoded_is_decoded_once_for_all_who_wait() -> None:
    async def scenario() -> None:
        broken = SMALL[: len(SMALL) // 2]
        async with served(FakeDevice(), CACHED) as here:
            answers = await asyncio.gather(*(send(here, broken) for _ in range(4)))
            found = {(answer.status_code, answer.json()["code"]) for answer in answers}
            assert found == {(400, "unreadable_image")}
            assert here.metric("agiqa_request_failures_total", reason="invalid_image") == 4
            ids = {answer.json()["request_id"] for answer in answers}
            assert len(ids) == 4
            assert counts(here)[0] == 0

    run(scenario)


def test_a_score_that_is_there_is_given_where_others_are_refused() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, CACHED) as here:
            assert (await send(here)).status_code == 200
            admission = here.app.state.service.admission
            admission._ceilings = dataclasses.replace(admission._ceilings, rows=3)
            device.gate.clear()
            held = asyncio.create_task(send(here, prompt="a dog"))
            await until(lambda: device.images == 2)
            assert (await send(here, OTHER)).status_code == 429
            assert (await send(here)).status_code == 200
            device.gate.set()
            assert (await held).status_code == 200

    run(scenario)


def test_a_batch_call_computes_each_image_once_and_what_is_there_not_at_all() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, CACHED) as here:
            await send(here)
            answer = await batch(here, SMALL, OTHER, b"no image", OTHER, SMALL)
            items = answer.json()["results"]
            assert [item.get("quality") for item in items] == [
                *(QUALITY, QUALITY, None),
                *(QUALITY, QUALITY),
            ]
            assert items[2]["code"] == "unsupported_image"
            assert [item["filename"] for item in items] == [f"{n}.png" for n in range(5)]
            assert device.images == 2
            assert counts(here) == (2, 1, 2)
            assert not here.app.state.service.admission.cost
            again = await batch(here, SMALL, OTHER)
            assert "cache;desc=hit;dur=" in again.headers["server-timing"]
            assert device.images == 2

    run(scenario)


def test_a_batch_call_that_is_refused_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Overloaded

    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, CACHED) as here:
            with monkeypatch.context() as full:
                full.setattr(here.app.state.service.admission, "promise", refuse)
                assert (await batch(here, SMALL, OTHER, SMALL)).status_code == 429
            assert not here.app.state.service.scoring.cache._under_way
            assert (await batch(here, SMALL)).status_code == 200

    run(scenario)


def test_a_batch_call_whose_client_leaves_hands_its_images_over() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, CACHED) as here:
            device.up = False
            first = asyncio.create_task(batch(here, SMALL, OTHER))
            await until(lambda: here.metric("agiqa_queue_requests") == 2)
            second = asyncio.create_task(batch(here, OTHER, SMALL))
            await waiting(here, for_others=2)
            first.cancel()
            await until(lambda: here.metric("agiqa_queue_requests") == 2 and first.done())
            device.come_up()
            items = (await second).json()["results"]
            assert [item["quality"] for item in items] == [QUALITY] * 2
            assert not here.app.state.service.scoring.cache._under_way

    run(scenario)


@pytest.mark.parametrize("revision", ["2", "1"], ids=["another revision", "the same revision"])
def test_after_a_reload_no_score_of_before_is_given(revision: str) -> None:
    async def scenario() -> None:
        config = GENERATED.config.model_copy(update={"revision": "1"})
        before = dataclasses.replace(GENERATED, config=config)
        device = FakeDevice(before)
        async with served(device, CACHED) as here:
            await send(here)
            device.gate.clear()
            old = asyncio.create_task(send(here, OTHER))
            await until(lambda: device.images == 2)
            newer = config.model_copy(update={"revision": revision})
            device.reloaded = dataclasses.replace(GENERATED, config=newer)
            await here.app.state.service.reload("fake")
            assert here.metric("agiqa_answer_cache_entries") == 0
            device.gate.set()
            assert (await old).json()["model"]["revision"] == "1"
            for data in (SMALL, OTHER):
                assert (await send(here, data)).json()["model"]["revision"] == revision
            assert device.images == 4

    run(scenario)


def test_after_a_restart_of_the_only_worker_no_score_of_before_is_given() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, CACHED) as here:
            await send(here)
            device.die()
            device.come_up()
            await send(here)
            assert device.images == 2

    run(scenario)


def test_an_image_that_ended_the_worker_twice_is_refused_whatever_is_known_of_it() -> None:
    async def scenario() -> None:
        device = FakeDevice()

        def fault(batch: Batch) -> Exception | None:
            dies = any(piece.job.payload.layout.heads != ("quality",) for piece in batch.slices)
            return DeviceError(Fault.WORKER_DIED) if dies else None

        async with served(device, CACHED) as here:
            post, files = here.client.post, {"image": SMALL}
            assert (await post("/score", files=files)).status_code == 200
            device.fault = fault
            answers = await asyncio.gather(*(post("/score-agi", files=files) for _ in range(3)))
            assert {answer.json()["code"] for answer in answers} == {"quarantined"}
            await here.app.state.service.scoring.quarantine.settled()
            before = len(device.batches)
            assert (await post("/score", files=files)).json()["code"] == "quarantined"
            assert len(device.batches) == before

    run(scenario)


def test_no_more_scores_are_kept_than_are_set() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        few = SETTINGS.model_copy(update={"cache_answers": 2})
        async with served(device, few) as here:
            for prompt in ("a", "b", "c", "a"):
                await send(here, prompt=prompt)
            assert device.images == 4
            assert here.metric("agiqa_answer_cache_entries") == 2

    run(scenario)


@pytest.mark.parametrize("windows", [1, 10, 1000])
def test_a_score_takes_no_more_memory_than_it_is_reckoned_with(windows: int) -> None:
    def score(number: int) -> Score:
        quality = tuple((number + i) / 1e6 for i in range(windows))
        named = {f"{number} {i}": number / 7 + i for i in range(9)}
        return Score(windows, number / 3, number / 5, number / 9, scene=named, crop_quality=quality)

    gc.collect()
    tracemalloc.start()
    cache = {number.to_bytes(32, "big"): score(number) for number in range(200)}
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken <= sum(map(score_bytes, cache.values()))
