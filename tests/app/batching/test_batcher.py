"""The batcher on a real event loop with a fake device."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from app.batching.batcher import Batcher, DeviceError, Outcome
from app.batching.budget import Limits
from app.batching.errors import DeadlineExceeded, Draining, Internal
from app.batching.jobs import Batch, Fault, Stages
from app.batching.rate import Rates
from app.batching.scheduler import Scheduler
from tests.app.fake_device import FakeDevice, run, until


class Silent:
    def batch_sent(self, batch: Batch) -> None: ...
    def batch_done(self, batch: Batch, outcome: Outcome) -> None: ...
    def batch_failed(self, batch: Batch, fault: Fault) -> None: ...


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Batcher, FakeDevice]]:
    device = FakeDevice(result=lambda piece: f"scored {piece.job.payload}", up=True)
    batcher = Batcher(Scheduler(Limits(), Rates()), [device], Silent(), time.monotonic)
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher, device
    finally:
        task.cancel()


def names(device: FakeDevice) -> list[list[str]]:
    return [[piece.job.payload for piece in batch.slices] for batch in device.batches]


def submit(batcher: Batcher, name: str, seconds: float = 5.0) -> "asyncio.Task[str]":
    return asyncio.create_task(batcher.submit("m", 1, time.monotonic() + seconds, name))


def test_rows_of_unlike_shape_reach_the_device_one_after_another() -> None:
    async def scenario() -> None:
        async with running() as (batcher, device):
            device.up = False
            waiting = [
                asyncio.create_task(
                    batcher.submit("m", 1, time.monotonic() + 5, name, shape=shape, row_cost=2)
                )
                for name, shape in (("a", (9, 9)), ("b", (8, 9)), ("c", (9, 9)))
            ]
            await until(lambda: len(batcher.scheduler.queued) == 3)
            device.up = True
            batcher.wake()
            assert await asyncio.gather(*waiting) == ["scored a", "scored b", "scored c"]
            assert names(device) == [["a", "c"], ["b"]]

    run(scenario)


def test_requests_that_arrive_while_the_device_is_busy_share_the_next_batch() -> None:
    async def scenario() -> None:
        async with running() as (batcher, device):
            device.gate.clear()
            first = submit(batcher, "first")
            await until(lambda: device.images == 1)
            others = [submit(batcher, f"{i}") for i in range(5)]
            await until(lambda: device.images + len(batcher.scheduler.queued) == 6)
            device.gate.set()
            assert await first == "scored first"
            assert await asyncio.gather(*others) == [f"scored {i}" for i in range(5)]
            assert names(device)[0] == ["first"]
            assert len(device.batches) <= 3

    run(scenario)


def test_a_cancelled_waiter_is_dropped_and_the_others_go_on() -> None:
    async def scenario() -> None:
        async with running() as (batcher, device):
            device.up = False
            gone, here = submit(batcher, "gone"), submit(batcher, "here")
            await until(lambda: len(batcher.scheduler.queued) == 2)
            gone.cancel()
            await until(lambda: len(batcher.scheduler.queued) == 1)
            device.up = True
            batcher.wake()
            assert await here == "scored here"
            assert names(device) == [["here"]]

    run(scenario)


def test_the_deadline_answers_even_while_the_batch_runs() -> None:
    async def scenario() -> None:
        async with running() as (batcher, device):
            device.gate.clear()
            with pytest.raises(DeadlineExceeded):
                await submit(batcher, "slow", seconds=0.05)
            device.gate.set()
            assert await submit(batcher, "next") == "scored next"

    run(scenario)


def test_a_deadline_in_the_queue_is_answered_without_computing() -> None:
    async def scenario() -> None:
        async with running() as (batcher, device):
            device.up = False
            with pytest.raises(DeadlineExceeded):
                await submit(batcher, "waiting", seconds=0.05)
            assert device.batches == []

    run(scenario)


def test_a_dead_worker_is_retried_once() -> None:
    async def scenario() -> None:
        async with running() as (batcher, device):
            faults = [DeviceError(Fault.WORKER_DIED)]
            device.fault = lambda _: faults.pop() if faults else None
            assert await submit(batcher, "a") == "scored a"
            assert names(device) == [["a"], ["a"]]

    run(scenario)


@pytest.mark.filterwarnings("ignore")
def test_an_unforeseen_fault_answers_everyone_and_the_batcher_lives_on() -> None:
    async def scenario() -> None:
        async with running() as (batcher, device):
            faults = [RuntimeError("a bug")]
            device.fault = lambda _: faults.pop() if faults else None
            with pytest.raises(Internal):
                await submit(batcher, "unlucky")
            assert await submit(batcher, "lucky") == "scored lucky"

    run(scenario)


def test_drain_waits_for_what_runs_and_refuses_the_rest_when_its_time_is_over() -> None:
    async def scenario() -> None:
        async with running() as (batcher, device):
            device.gate.clear()
            stuck = submit(batcher, "stuck")
            await until(lambda: device.images == 1)
            await batcher.drain(asyncio.Event().wait(), 0.05)
            with pytest.raises(Draining):
                await stuck

    run(scenario)


def test_drain_returns_once_what_was_admitted_is_answered() -> None:
    async def scenario() -> None:
        async with running() as (batcher, _):
            done = submit(batcher, "a")
            await batcher.drain(asyncio.wait([done]), 10)
            assert await done == "scored a"

    run(scenario)


def test_the_stages_of_an_image_that_is_split_add_up_over_its_batches() -> None:
    async def scenario() -> None:
        device, stages = FakeDevice(result=lambda _: "rows", up=True), Stages()
        limits = Limits(batch_rows=2)
        batcher = Batcher(Scheduler(limits, Rates()), [device], Silent(), time.monotonic)
        task = asyncio.create_task(batcher.run())
        await batcher.submit("m", 5, time.monotonic() + 5, "a", stages=stages)
        task.cancel()
        assert len(device.batches) == 3
        assert stages["inference"] == pytest.approx(3 * 0.001)
        assert stages["queue"] >= 0
        parts = [known for stage, _, _, known in stages.intervals if stage == "inference"]
        assert [known["rows"] for known in parts] == [2, 2, 1]
        assert [known["batch_rows"] for known in parts] == [2, 2, 1]

    run(scenario)


def test_an_image_knows_the_device_of_the_worker_that_computed_it() -> None:
    class Named(FakeDevice):
        name = ""

        async def run(self, batch: Batch) -> Outcome:
            return replace(await super().run(batch), device=self.name)

    async def scenario() -> None:
        devices = [Named(up=True), Named(up=True)]
        for number, device in enumerate(devices):
            device.name = f"cuda:{number}"
            device.gate.clear()
        scheduler = Scheduler(Limits(), Rates(), Rates())
        batcher = Batcher(scheduler, devices, Silent(), time.monotonic)
        task = asyncio.create_task(batcher.run())
        images = [Stages(), Stages()]
        due = time.monotonic() + 20
        answers = [
            asyncio.create_task(batcher.submit("m", 1, due, "a", shape=(size,), stages=stages))
            for size, stages in enumerate(images)
        ]
        await until(lambda: all(device.batches for device in devices))
        for device in devices:
            device.gate.set()
        await asyncio.gather(*answers)
        task.cancel()
        assert sorted(image.device for image in images) == ["cuda:0", "cuda:1"]
        for image in images:
            known = {stage: about for stage, _, _, about in image.intervals}
            assert known["inference"]["device"] == known["reduce"]["device"] == image.device

    run(scenario)
