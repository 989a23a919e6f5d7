"""The service on two workers, in memory: what the end of one, or its other models, costs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from app.batching.batcher import DeviceError
from app.batching.errors import ReloadFailed
from app.batching.jobs import Fault
from app.device.messages import LoadedModel
from app.device.supervisor import StartError, WorkerRefused
from app.settings import Settings
from tests.app.fake_device import (
    GENERATED,
    SETTINGS,
    FakeDevice,
    Served,
    loaded,
    run,
    served,
    until,
)

TWO = SETTINGS.model_copy(update={"device": "cpu,cpu"})
OTHER = loaded("quality")  # of the same name


@asynccontextmanager
async def both(*devices: FakeDevice, settings: Settings = TWO) -> AsyncIterator[Served]:
    async with served(devices, settings) as here:
        await until(lambda: here.metric("agiqa_workers", device="cpu") == len(devices))
        yield here


def readiness(here: Served) -> "asyncio.Task[int]":
    async def status() -> int:
        return (await here.client.get("/readyz")).status_code

    return asyncio.create_task(status())


def test_a_worker_that_ends_costs_neither_readiness_nor_a_request() -> None:
    async def scenario() -> None:
        first, second = FakeDevice(), FakeDevice()
        async with both(first, second) as here:
            assert here.metric("agiqa_worker_up", device="cpu") == 2
            first.gate.clear()
            first.fault = lambda _: DeviceError(Fault.NOT_RUN)
            answer = asyncio.create_task(here.post())
            await until(lambda: bool(first.batches))
            first.die()
            first.gate.set()
            assert (await answer).status_code == 200
            assert second.images == 1
            assert await readiness(here) == 200
            assert here.metric("agiqa_ready") == 1
            assert here.metric("agiqa_worker_up", device="cpu") == 1
            second.die()
            assert await readiness(here) == 503
            first.come_up()
            assert await readiness(here) == 200

    run(scenario)


def test_two_requests_run_side_by_side() -> None:
    async def scenario() -> None:
        devices = FakeDevice(), FakeDevice()
        async with both(*devices) as here:
            for device in devices:
                device.gate.clear()
            answers = [asyncio.create_task(here.post()) for _ in devices]
            await until(lambda: all(device.batches for device in devices))
            for device in devices:
                device.gate.set()
            assert [answer.status_code for answer in await asyncio.gather(*answers)] == [200, 200]

    run(scenario)


@pytest.mark.parametrize("models", [(OTHER,), (GENERATED, loaded("quality", name="more"))])
def test_a_worker_with_other_models_than_the_one_that_serves_is_refused(
    models: tuple[LoadedModel, ...],
) -> None:
    async def scenario() -> None:
        first, second = FakeDevice(), FakeDevice()
        async with both(first, second) as here:
            second.die()
            second.models = models
            with pytest.raises(WorkerRefused, match="loaded another revision of"):
                second.come_up()
            second.up = False
            assert here.app.state.service.models.choose("fake", "/score").key == GENERATED.key
            assert here.metric("agiqa_worker_up", device="cpu") == 1
            assert (await here.post()).status_code == 200
            first.die()  # nobody serves: what comes next decides
            second.come_up()
            assert here.app.state.service.models.choose("fake", "/score").key == models[0].key

    run(scenario)


def test_all_workers_load_a_model_again_or_none_serves_it() -> None:
    async def scenario() -> None:
        first, second = FakeDevice(), FakeDevice()
        async with both(first, second) as here:
            service = here.app.state.service
            first.reloaded = second.reloaded = OTHER
            second.reload_error = ReloadFailed("no memory")
            with pytest.raises(ReloadFailed, match="no memory"):
                await service.reload("fake")
            assert service.models.choose("fake", "/score").key == GENERATED.key
            second.reload_error = None
            second.reloaded = GENERATED
            with pytest.raises(ReloadFailed, match="changed while they were read"):
                await service.reload("fake")
            second.reloaded = OTHER
            assert (await service.reload("fake")).key == OTHER.key
            assert service.models.choose("fake", "/score").key == OTHER.key

    run(scenario)


def test_one_worker_that_can_not_start_leaves_the_service_to_the_other() -> None:
    async def scenario() -> None:
        first, second = FakeDevice(), FakeDevice()
        second.start_error = StartError("no such device")
        fatal: list[BaseException] = []
        async with served([first, second], TWO, on_fatal=fatal.append) as here:
            await until(lambda: here.metric("agiqa_ready") == 1)
            assert (await here.post()).status_code == 200
            assert not fatal

    run(scenario)


def test_a_service_of_which_no_worker_can_start_ends() -> None:
    async def scenario() -> None:
        devices = FakeDevice(), FakeDevice()
        for device in devices:
            device.start_error = StartError("no such model")
        fatal: list[BaseException] = []
        async with served(devices, TWO, on_fatal=fatal.append):
            await until(lambda: bool(fatal))
            assert [str(error) for error in fatal] == ["no such model"]

    run(scenario)


def test_verbose_readiness_shows_each_worker_and_devices_are_counted_apart() -> None:
    async def scenario() -> None:
        first, second = FakeDevice(), FakeDevice(replace(GENERATED, device="cuda:1"))
        second.timings = {"fake": [(10, 0.1)]}
        settings = SETTINGS.model_copy(update={"device": "cpu,cuda:1"})
        async with served([first, second], settings) as here:
            await until(lambda: here.metric("agiqa_worker_up", device="cuda:1") == 1)
            assert here.metric("agiqa_worker_up", device="cpu") == 1
            first.die()
            shown = (await here.client.get("/readyz?verbose")).json()
            assert shown["worker_up"]
            assert [(w["device"], w["up"], w["responsive"]) for w in shown["workers"]] == [
                ("cpu", False, False),
                ("cuda:1", True, True),
            ]
            assert shown["workers"][1]["rows_per_second"] == {"fake": 100.0}
            assert [w["batch_rows"] for w in shown["workers"]] == [128, 512]

    run(scenario)
