"""The real worker process under its supervisor, where a stub would not do."""

import asyncio
import os
import signal
import sys

import pytest

from app.batching.batcher import DeviceError
from app.batching.scheduler import Batch, Job, Slice
from app.device.arena import Arena, Slot
from app.device.messages import Piece, Ready, WorkerSettings
from app.device.supervisor import WorkerDevice
from model.preprocess.crops import CropPlanner

pytestmark = pytest.mark.integration

_MODEL = "tiny-clip-agiqa"
# Its first batch meets with a device that is of no use any more.
_LOSES_ITS_DEVICE = """
import app.worker as worker

def lose(*_):
    raise worker.DeviceLost("gone")

worker.Worker.answer = lose
worker.main()
"""


def test_a_worker_shows_its_stacks_on_a_signal_and_ends_with_75_when_its_device_is_lost(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        arena = Arena(2**20)
        settings = WorkerSettings((_MODEL,), "cpu", "float32", 1, arena.size, "info", "json")
        device = WorkerDevice(settings, arena, [sys.executable, "-c", _LOSES_ITS_DEVICE])
        changes: asyncio.Queue[tuple[Ready | None, str]] = asyncio.Queue()
        task = asyncio.create_task(device.start(lambda *change: changes.put_nowait(change)))
        ready, _ = await changes.get()
        assert ready is not None
        assert device._life is not None

        stacks = ""
        while "in serve" not in stacks:
            os.kill(device._life.process.pid, signal.SIGUSR1)
            await asyncio.sleep(0.1)
            stacks += capfd.readouterr().err
        assert "in _run" in stacks  # the thread that beats

        (loaded,) = ready.models
        layout = CropPlanner(loaded.config, loaded.policy).plan(224, 224, ("quality",))
        piece = Piece(Slot(0, 64, 1), layout, None, 0, layout.rows, completes=True)
        job = Job(_MODEL, layout.rows, 9.0, piece, print)
        with pytest.raises(DeviceError):
            await device.run(Batch((Slice(job, 0, layout.rows),), "idle", 0.0))
        assert (await changes.get())[1] == "exit"
        assert (await changes.get())[1] == "started"
        await device.stop()
        await task
        arena.close()

    async def limited() -> None:
        async with asyncio.timeout(200):
            await test()

    asyncio.run(limited())
    assert "exit code 75, its device was of no use any more" in caplog.text
