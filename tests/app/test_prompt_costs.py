"""What prompts take is learned from the batches that had some, and counts before more come in."""

import asyncio
from dataclasses import replace

import pytest

from app.batching.batcher import Outcome
from app.batching.jobs import Batch
from app.device.prompts import prompt_bytes
from tests.app.fake_device import SETTINGS, SMALL, FakeDevice, Served, run, served, until

PER_BYTE = 0.25  # seconds; "a fox" takes 17 of them


class SlowReader(FakeDevice):
    """Computes at once, but takes long for prompts."""

    async def run(self, batch: Batch) -> Outcome:
        outcome = await super().run(batch)
        prompts = [p.job.payload.prompt for p in batch.slices if p.job.payload.prompt]
        size = sum(map(prompt_bytes, prompts))
        return replace(outcome, prompt_bytes=size, reduce_seconds=PER_BYTE * size)


def expected(here: Served) -> float:
    seconds: float = here.app.state.service.admission.expected_seconds()
    return seconds


def test_a_prompt_that_can_not_be_read_in_time_is_refused_at_the_door() -> None:
    async def test() -> None:
        device = SlowReader()
        async with served(device) as here:
            assert (await here.post("a fox")).status_code == 200  # nothing is known yet
            device.gate.clear()
            waiting = asyncio.create_task(here.post("a hen"))
            await until(lambda: here.app.state.service.admission.cost > 0)
            assert expected(here) == pytest.approx(PER_BYTE * prompt_bytes("a hen"), abs=0.5)
            refused = await here.post("a dog")
            assert refused.status_code == 429
            # At the door, where its own cost is not known: until what waits can be in time.
            assert int(refused.headers["Retry-After"]) >= SETTINGS.deadline_seconds - 1
            device.gate.set()
            assert (await waiting).status_code == 200
            assert expected(here) == 0

    run(test)


def test_what_is_not_compared_with_the_prompt_does_not_wait_for_it() -> None:
    async def test() -> None:
        device = SlowReader()
        async with served(device) as here:
            await here.post("a fox")
            device.gate.clear()
            files, form = {"image": ("a.png", SMALL)}, {"prompt": "a hen"}
            waiting = asyncio.create_task(here.client.post("/score", files=files, data=form))
            await until(lambda: here.app.state.service.admission.cost > 0)
            assert expected(here) < 1
            device.gate.set()
            assert (await waiting).status_code == 200

    run(test)


def test_a_batch_call_gets_the_time_that_its_prompts_take() -> None:
    async def test() -> None:
        device = SlowReader()
        async with served(device) as here:
            await here.post("a fox")
            files = [("images", ("a.png", SMALL))] * 2
            form = {"prompts": ["a hen", "a dog"]}
            await here.client.post("/score-agi/batch", files=files, data=form)
            job = device.batches[-1].slices[0].job
            both = 2 * PER_BYTE * prompt_bytes("a hen")
            assert job.deadline - job.arrived > both > SETTINGS.deadline_seconds

    run(test)


def test_before_any_prompt_was_read_one_is_expected_to_take_what_the_warm_up_told() -> None:
    async def test() -> None:
        device = SlowReader()
        device.prompt_seconds = {device.models[0].key: 2.0}
        async with served(device) as here:
            device.gate.clear()
            waiting = asyncio.create_task(here.post("a fox"))
            await until(lambda: here.app.state.service.admission.cost > 0)
            assert expected(here) >= 2.0
            device.gate.set()
            await waiting

    run(test)


def test_an_answer_that_was_late_teaches_the_margin() -> None:
    async def test() -> None:
        device = FakeDevice()
        async with served(device) as here:
            margin = here.app.state.service.admission.margin
            device.gate.clear()
            form = {"prompt": "a fox"}
            late = await here.client.post(
                "/score-agi",
                files={"image": ("a.png", SMALL)},
                data=form,
                headers={"X-Request-Timeout": "0.6"},
            )
            assert late.status_code == 504
            assert margin.factor > 1
            device.gate.set()

    run(test)
