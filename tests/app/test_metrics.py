"""What the metrics tell of the two classes, and of what admission reckons with."""

import asyncio

import pytest

from app.batching.fairness import Priority
from tests.app.fake_device import FakeDevice, Served, run, served, until
from tests.app.pictures import encoded

BACKLOG, CLASSES = "agiqa_backlog_seconds", "agiqa_requests_by_priority_total"


def _slow() -> FakeDevice:
    """Expected to take a second for a row; it computes nothing yet."""
    device = FakeDevice()
    device.timings = {"fake": [(1, 1.0)]}
    device.gate.clear()
    return device


async def _batch(here: Served, images: int) -> int:
    files = [("images", encoded())] * images
    return (await here.client.post("/score/batch", files=files)).status_code


@pytest.mark.parametrize("priority", Priority)
def test_the_backlog_is_told_by_class_from_the_start(priority: Priority) -> None:
    async def scenario() -> None:
        device = _slow()
        async with served(device) as here:
            shown = (await here.client.get("/metrics")).text
            assert f'{BACKLOG}{{priority="{priority}"}} 0.0' in shown
            assert f'{CLASSES}{{code="429",priority="{priority}"}} 0.0' in shown
            assert "agiqa_admission_margin 1.0" in shown
            headers = {"X-Priority": priority}
            work = here.client.post("/score", files={"image": encoded()}, headers=headers)
            task = asyncio.create_task(work)
            await until(lambda: here.metric(BACKLOG, priority=priority) > 0)
            (other,) = set(Priority) - {priority}
            assert here.metric(BACKLOG, priority=other) == 0
            device.gate.set()
            assert (await task).status_code == 200
            assert here.metric(BACKLOG, priority=priority) == 0

    run(scenario)


def test_images_of_a_batch_call_that_wait_to_be_let_in_are_counted() -> None:
    async def scenario() -> None:
        device = _slow()
        async with served(device) as here:
            assert here.metric("agiqa_lane_images") == 0
            task = asyncio.create_task(_batch(here, 8))
            await until(lambda: 0 < here.metric("agiqa_lane_images") < 8)
            device.gate.set()
            assert await task == 200
            assert here.metric("agiqa_lane_images") == 0

    run(scenario)


def test_requests_are_counted_by_class_refused_ones_too() -> None:
    async def scenario() -> None:
        device = _slow()
        async with served(device) as here:
            # What is before the second one takes more than it may wait for.
            headers = {"X-Priority": "bulk", "X-Request-Timeout": "6"}
            first = asyncio.create_task(here.post(**headers))
            await until(lambda: here.metric(BACKLOG, priority="bulk") > 0)
            assert (await here.post(**headers)).status_code == 429
            device.gate.set()
            assert (await first).status_code == 200
            assert await _batch(here, 2) == 200
            assert (await here.post()).status_code == 200
            counts = {
                (priority, code): here.metric(CLASSES, priority=priority, code=code)
                for priority in Priority
                for code in ("200", "429")
            }
            assert counts == {
                ("interactive", "200"): 1,
                ("interactive", "429"): 0,
                ("bulk", "200"): 2,
                ("bulk", "429"): 1,
            }

    run(scenario)


def test_what_is_no_scoring_request_has_no_class() -> None:
    async def scenario() -> None:
        async with served(FakeDevice()) as here:
            await here.client.get("/models", headers={"X-Priority": "bulk"})
            assert here.metric(CLASSES, priority="bulk", code="200") == 0

    run(scenario)
