"""The supervisor with real processes: a stub worker that hangs, dies and talks nonsense."""

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from app.batching.jobs import Fault
from app.batching.lending import Lending
from app.device.arena import Arena
from app.device.messages import Ready, WorkerSettings
from app.device.supervisor import StartError, WorkerDevice
from app.main import create_app
from tests.app.device.supervised import Started, batch, device, failure, within_time
from tests.app.fake_device import SETTINGS
from tests.app.fake_device import until as condition


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, "killed"), (signal.SIGTERM, "killed"), (signal.SIGSEGV, "segfault")],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_worker_that_a_signal_ends_is_replaced_and_the_log_says_which(
    number: signal.Signals, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with device(tmp_path) as started:
            await started.heard("started")
            old = started.pid
            running = asyncio.create_task(started.device.run(batch("hang", label="request-1")))
            await asyncio.sleep(0)
            os.kill(old, number)
            assert await started.heard("started") == [reason, "started"]
            assert (await failure(running)).fault is Fault.WORKER_DIED
            assert await started.pid_of_a_batch() == started.pid != old

    within_time(test)
    (record,) = [r for r in caplog.records if "the worker ended" in r.getMessage()][:1]
    fields = vars(record)
    assert fields["reason"] == reason
    assert fields["exit_code"] == -number
    assert fields["signal"] == number.name
    assert fields["requests"] == ["request-1"]


def test_what_a_worker_measures_after_it_is_ready_is_heard_of_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with device(tmp_path, most_workers=6) as started:
            ready, why = await started.changes.get()
            assert ready is not None
            assert (ready.lending, why) == (None, "started")
            measured, why = await started.changes.get()
            assert (measured and measured.lending, why) == (Lending(6, 2, 1.5, 1.25), "measured")
            os.kill(started.pid, signal.SIGKILL)
            assert await started.heard("started") == ["killed", "started"]
            await started.pid_of_a_batch()  # what it had measured would have come before
            assert started.changes.empty()

    within_time(test)


def test_a_stopped_worker_first_loses_readiness_and_then_its_life(tmp_path: Path) -> None:
    async def test() -> None:
        async with device(tmp_path) as started:
            await started.heard("started")
            os.kill(started.pid, signal.SIGSTOP)
            assert await started.heard("hang") == ["unresponsive", "hang"]
            assert not started.device.up
            assert await started.heard("started") == ["started"]
            assert await started.pid_of_a_batch() == started.pid

    within_time(test)


def test_a_worker_that_goes_on_in_time_is_ready_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with device(tmp_path) as started:
            await started.heard("started")
            os.kill(started.pid, signal.SIGSTOP)
            await started.heard("unresponsive")
            os.kill(started.pid, signal.SIGCONT)
            assert await started.heard("recovered", "hang") == ["recovered"]
            assert await started.pid_of_a_batch() == started.pid

    within_time(test)


def test_a_worker_that_beats_but_hangs_under_a_batch_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with device(tmp_path) as started:
            await started.heard("started")
            first = asyncio.create_task(started.device.run(batch("hang")))
            second = asyncio.create_task(started.device.run(batch()))
            assert await started.heard("started") == ["unresponsive", "hang", "started"]
            assert (await failure(first)).fault is Fault.WORKER_DIED
            assert (await failure(second)).fault is Fault.NOT_RUN
            assert await started.pid_of_a_batch() == started.pid

    within_time(test)
    assert "it made no progress with a batch" in caplog.text


def test_one_that_hangs_while_it_loads_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with device(tmp_path, "hang", load_seconds=5) as started:
            assert await started.heard("started") == ["hang", "started"]

    within_time(test)
    assert "it was not ready within 5 s" in caplog.text


@pytest.mark.parametrize("order", ["garbage", "odd-message"])
def test_a_worker_that_sends_what_can_not_be_read_is_replaced(order: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with device(tmp_path) as started:
            await started.heard("started")
            running = asyncio.create_task(started.device.run(batch(order)))
            assert "hang" in await started.heard("started")
            assert (await failure(running)).fault is Fault.WORKER_DIED
            assert await started.pid_of_a_batch() == started.pid

    within_time(test)


def test_a_worker_that_lost_its_device_is_replaced_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with device(tmp_path) as started:
            await started.heard("started")
            running = asyncio.create_task(started.device.run(batch("lose-device")))
            assert await started.heard("started") == ["exit", "started"]
            assert (await failure(running)).fault is Fault.WORKER_DIED

    within_time(test)
    assert "exit code 75, its device was of no use any more" in caplog.text


def test_a_message_larger_than_the_socket_to_a_stopped_worker_does_not_stop_the_loop(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        async with device(tmp_path) as started:
            await started.heard("started")
            os.kill(started.pid, signal.SIGSTOP)
            large = batch(before=(np.zeros(32 * 2**20, np.uint8),))
            running = asyncio.create_task(started.device.run(large))
            ticks = 0
            while not running.done():
                await asyncio.sleep(0.001)
                ticks += 1
            assert (await failure(running)).fault is Fault.WORKER_DIED
            assert ticks > 100
            assert "hang" in await started.heard("started")
            assert (await started.device.run(large)).results == [started.pid]

    within_time(test)


def test_one_that_can_not_be_killed_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with device(tmp_path) as started:
            await started.heard("started")
            old = started.device._life
            assert old is not None
            # As one that waits for its driver in the kernel does: nothing reaches it.
            monkeypatch.setattr(old.process, "signal", lambda _: None)
            os.kill(old.process.pid, signal.SIGSTOP)
            assert await started.heard("started") == ["unresponsive", "hang", "started"]
            assert await started.pid_of_a_batch() != old.process.pid

    within_time(test)
    assert "the worker can't be killed; it is left" in caplog.text


def test_a_model_that_can_not_be_loaded_is_not_tried_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with device(tmp_path, "refuse") as started:
            with pytest.raises(StartError, match="no such model"):
                await started.task
            assert [why for _, why in drained(started)] == ["start_failed"]

    within_time(test)


def test_a_first_worker_that_dies_is_tried_again_but_not_for_ever(tmp_path: Path) -> None:
    async def test() -> None:
        async with device(tmp_path, "die", "die") as started:
            assert await started.heard("started") == ["killed", "killed", "started"]
        async with device(tmp_path, "die", "die", "die") as started:
            with pytest.raises(StartError, match="3 times"):
                await started.task

    within_time(test)


def drained(started: Started) -> list[tuple[Ready | None, str]]:
    found = []
    while not started.changes.empty():
        found.append(started.changes.get_nowait())
    return found


def test_what_keeps_a_worker_from_being_started_is_outlasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async def test() -> None:
        async with device(tmp_path) as started:
            await started.heard("started")
            with monkeypatch.context() as patched:
                patched.setattr("threading.Thread.start", no_thread)
                os.kill(started.pid, signal.SIGKILL)
                assert await started.heard("start_failed") == ["killed", "start_failed"]
            assert (await started.heard("started"))[-1] == "started"
            assert await started.pid_of_a_batch() == started.pid

    within_time(test)


@pytest.mark.parametrize(("own", "seen"), [(None, "1000"), ("7", "7")])
def test_the_threads_of_a_worker_sleep_soon_unless_the_environment_says_otherwise(
    own: str | None, seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if own:
        monkeypatch.setenv("GOMP_SPINCOUNT", own)
    written = tmp_path / "seen"

    async def test() -> None:
        command = ["/bin/sh", "-c", f'printf %s "$GOMP_SPINCOUNT" > {written}', "worker"]
        async with device(tmp_path, command=command) as started:
            with pytest.raises(StartError):
                await started.task

    within_time(test)
    assert written.read_text() == seen


def test_a_program_that_is_not_there_gives_a_start_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with device(tmp_path, command=[str(tmp_path / "nothing")]) as started:
            with pytest.raises(StartError):
                await started.task

    within_time(test)


def test_the_service_that_takes_in_a_worker_badly_gets_another(tmp_path: Path) -> None:
    """An exception of the one who hears of changes must not leave the service without a worker."""
    heard: list[str] = []

    def on_change(_: Ready | None, why: str) -> None:
        heard.append(why)
        if heard == ["started"]:
            raise ValueError("not now")

    async def test() -> None:
        async with device(tmp_path) as started:
            await asyncio.sleep(0)
            started.device._on_change = on_change
            await condition(lambda: heard.count("started") == 2)
            assert heard[1] == "hang"

    within_time(test)


def test_stopping_lets_a_batch_finish_and_ends_a_loading_worker_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with device(tmp_path) as started:
            await started.heard("started")
            running = asyncio.create_task(started.device.run(batch()))
            await asyncio.sleep(0)
            await started.device.stop()
            assert len((await running).results) == 1
            await started.task
            assert drained(started) == []
        async with device(tmp_path, "hang") as started:
            await asyncio.sleep(0)
            await started.device.stop()
            await started.task
            assert drained(started) == []

    within_time(test)


def test_the_settings_reach_the_supervisor() -> None:
    seen: list[WorkerSettings] = []

    def make(settings: WorkerSettings, arena: Arena) -> WorkerDevice:
        seen.append(settings)
        return WorkerDevice(settings, arena)

    app = create_app(SETTINGS.model_copy(update={"load_seconds": 7.0}), device=make)
    assert seen[0].load_seconds == 7
    app.state.service._slots.close()
