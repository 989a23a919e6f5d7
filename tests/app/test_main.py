"""The server around the application: signals, and how long its end may take."""

import asyncio
import gc
import signal
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import uvicorn
from uvicorn.lifespan.off import LifespanOff

from app import service
from app.device.arena import Arena
from app.device.messages import WorkerSettings
from app.device.supervisor import OnChange, StartError
from app.http.limits import unread
from app.main import LAST_TURNS_SECONDS, Server, create_app, server_config
from app.settings import Settings
from tests.app.fake_device import FakeDevice, run, served, until

SETTINGS = Settings(models=("fake",), max_crop_mib=1)


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def app_with(settings: Settings) -> Any:
    return create_app(settings, device=lambda _, __: FakeDevice())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_server_runs_is_not_lost(handlers: None, number: int) -> None:
    app = app_with(SETTINGS)
    server = Server(uvicorn.Config(app), app.state.service)
    server.heed_signals()
    signal.raise_signal(number)
    assert server.should_exit


@pytest.mark.parametrize("drain", [0.0, 0.25, 30.0])
def test_connections_and_worker_end_within_five_seconds_of_the_drain(drain: float) -> None:
    settings = SETTINGS.model_copy(update={"drain_seconds": drain})
    graceful = server_config(app_with(settings), settings).timeout_graceful_shutdown
    assert graceful is not None
    # What the drain cuts off is answered before.
    assert graceful > drain + service.LAST_WORDS + unread.LINGER_SECONDS
    # uvicorn looks ten times a second, and pauses as long once.
    polls = 0.3 + LAST_TURNS_SECONDS
    assert polls + graceful + service.STOP_SECONDS <= drain + 5


def test_what_is_there_at_the_start_is_not_looked_at_by_the_garbage_collector_again() -> None:
    async def scenario() -> None:
        async with served(FakeDevice()) as here:
            server = Server(uvicorn.Config(here.app, port=0), here.app.state.service)
            server.config.load()
            server.lifespan = LifespanOff(server.config)
            before = gc.get_freeze_count()
            await server.startup()
            try:
                assert gc.get_freeze_count() > before
            finally:
                gc.unfreeze()
                await server.shutdown()

    run(scenario)


def test_after_a_signal_requests_are_taken_until_the_delay_is_over() -> None:
    async def scenario() -> None:
        settings = SETTINGS.model_copy(update={"drain_delay_seconds": 5.0, "max_crop_mib": 4})
        async with served(FakeDevice(), settings) as here:
            service, now = here.app.state.service, [100.0]
            service.clock = lambda: now[0]
            server = Server(uvicorn.Config(here.app), service)
            server.config.load()
            assert not await server.on_tick(1)
            server.should_exit = True
            assert not await server.on_tick(2)
            refused = await here.client.get("/readyz?verbose")
            assert (refused.status_code, refused.json()["code"]) == (503, "draining")
            assert (refused.json()["state"], refused.json()["retired"]) == ("ready", True)
            assert here.metric("agiqa_ready") == 0
            assert (await here.post()).status_code == 200
            now[0] += 4.9
            assert not await server.on_tick(3)
            now[0] += 0.2
            assert await server.on_tick(4)

    run(scenario)


def test_a_worker_that_comes_back_makes_no_service_ready_that_is_about_to_end() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, SETTINGS.model_copy(update={"drain_delay_seconds": 5.0})) as here:
            here.app.state.service.retire()
            device.die()
            device.come_up()
            assert here.metric("agiqa_ready") == 0
            assert (await here.client.get("/readyz")).status_code == 503

    run(scenario)


def test_there_is_no_delay_at_a_second_signal_or_before_the_models_are_loaded() -> None:
    async def scenario() -> None:
        settings = SETTINGS.model_copy(update={"drain_delay_seconds": 1000.0})
        loading = FakeDevice()
        loading.start_error = StartError("no checkpoint")
        for device, forced in ((FakeDevice(), True), (loading, False)):
            async with served(device, settings) as here:
                server = Server(uvicorn.Config(here.app), here.app.state.service)
                server.should_exit, server.force_exit = True, forced
                assert await server.on_tick(1)

    run(scenario)


class Breaking(FakeDevice):
    """Can't go on once ``broken`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = asyncio.Event()

    async def start(self, on_change: OnChange) -> None:
        await super().start(on_change)
        await self.broken.wait()
        raise StartError("no more workers")


def test_there_is_no_delay_where_the_service_itself_broke() -> None:
    async def scenario() -> None:
        settings = SETTINGS.model_copy(update={"drain_delay_seconds": 1000.0})
        device, fatal = Breaking(), list[BaseException]()
        async with served(device, settings, on_fatal=fatal.append) as here:
            await until(lambda: here.metric("agiqa_ready") == 1)
            assert not here.app.state.service.retire()
            device.broken.set()
            await until(lambda: bool(fatal))
            assert here.app.state.service.retire()

    run(scenario)


def test_a_connection_is_kept_longer_than_a_proxy_keeps_its_own() -> None:
    config = server_config(app_with(SETTINGS), SETTINGS)
    assert config.timeout_keep_alive == SETTINGS.keep_alive_seconds > 60


def test_the_worker_hears_of_the_settings_that_are_its_own() -> None:
    heard: list[WorkerSettings] = []

    def device(settings: WorkerSettings, _: Arena) -> FakeDevice:
        heard.append(settings)
        return FakeDevice()

    settings = SETTINGS.model_copy(update={"max_prompt_tokens": 77})
    create_app(settings, device=device)
    for field in fields(WorkerSettings):
        if field.name == "most_workers":  # hangs on the machine's cores
            continue
        assert getattr(heard[0], field.name) == getattr(settings, field.name), field.name
