"""The batcher on a real event loop with a fake device."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from app.batcher import Batcher, DeviceError, Outcome
from app.errors import DeadlineExceeded, Draining, Internal
from app.rate import Rates
from app.scheduler import Batch, Fault, Limits, Scheduler


class FakeDevice:
    """Answers each slice with its payload; ``gate`` holds batches, ``faults`` fails the next."""

    def __init__(self) -> None:
        self.up = True
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.faults: list[BaseException] = []

    async def run(self, batch: Batch) -> Outcome:
        self.batches.append([s.job.payload for s in batch.slices])
        await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        return Outcome([f"scored {s.job.payload}" for s in batch.slices], 0.001)


class Silent:
    def batch_sent(self, batch: Batch) -> None: ...
    def batch_done(self, batch: Batch, outcome: Outcome) -> None: ...
    def batch_failed(self, batch: Batch, fault: Fault) -> None: ...


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Batcher, FakeDevice]]:
    device = FakeDevice()
    batcher = Batcher(Scheduler(Limits(), Rates()), device, Silent(), time.monotonic)
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher, device
    finally:
        task.cancel()


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
            await asyncio.sleep(0.01)
            device.up = True
            batcher.wake()
            assert await asyncio.gather(*waiting) == ["scored a", "scored b", "scored c"]
            assert device.batches == [["a", "c"], ["b"]]

    run(scenario)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def within_time() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(within_time())


def test_requests_that_arrive_while_the_device_is_busy_share_the_next_batch() -> None:
    async def scenario() -> None:
        async with running() as (batcher, device):
            device.gate.clear()
            first = submit(batcher, "first")
            await asyncio.sleep(0.01)
            others = [submit(batcher, f"{i}") for i in range(5)]
            await asyncio.sleep(0.01)
            device.gate.set()
            assert await first == "scored first"
            assert await asyncio.gather(*others) == [f"scored {i}" for i in range(5)]
            assert device.batches[0] == ["first"]
            assert len(device.batches) <= 3

    run(scenario)


def test_a_cancelled_waiter_is_dropped_and_the_others_go_on() -> None:
    async def scenario() -> None:
        async with running() as (batcher, device):
            device.up = False
            gone, here = submit(batcher, "gone"), submit(batcher, "here")
            await asyncio.sleep(0.01)
            gone.cancel()
            await asyncio.sleep(0)
            device.up = True
            batcher.wake()
            assert await here == "scored here"
            assert device.batches == [["here"]]

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
            device.faults = [DeviceError(Fault.WORKER_DIED)]
            assert await submit(batcher, "a") == "scored a"
            assert device.batches == [["a"], ["a"]]

    run(scenario)


@pytest.mark.filterwarnings("ignore")
def test_an_unforeseen_fault_answers_everyone_and_the_batcher_lives_on() -> None:
    async def scenario() -> None:
        async with running() as (batcher, device):
            device.faults = [RuntimeError("a bug")]
            with pytest.raises(Internal):
                await submit(batcher, "unlucky")
            assert await submit(batcher, "lucky") == "scored lucky"

    run(scenario)


def test_drain_waits_for_what_runs_and_refuses_the_rest_when_its_time_is_over() -> None:
    async def scenario() -> None:
        async with running() as (batcher, device):
            device.gate.clear()
            stuck = submit(batcher, "stuck")
            await asyncio.sleep(0.01)
            await batcher.drain(0.05)
            with pytest.raises(Draining):
                await stuck

    run(scenario)


def test_drain_returns_at_once_when_nothing_is_there() -> None:
    async def scenario() -> None:
        async with running() as (batcher, _):
            done = submit(batcher, "a")
            await batcher.drain(10)
            assert await done == "scored a"

    run(scenario)
