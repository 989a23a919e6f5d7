"""A supervisor with a stub of a worker, in processes of their own, for tests."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from app.batching.batcher import DeviceError, Outcome
from app.batching.jobs import Batch, Job, Slice
from app.device.arena import Arena, Slot
from app.device.messages import Piece, Ready, WorkerSettings
from app.device.supervisor import WorkerDevice
from model.preprocess.crops import CropPlanner
from tests.app.fake_device import GENERATED

_STUB = Path(__file__).with_name("stub_worker.py")
_ROOT = _STUB.parents[3]
_RUN_STUB = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
sys.argv[:] = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_LAYOUT = CropPlanner(GENERATED.config, GENERATED.policy).plan(224, 224, ("quality",))
# A generous limit for a whole test: starting Python takes long on a busy machine.
_LIMIT = 120.0


def batch(order: str = "score", *, label: str = "", before: tuple[np.ndarray, ...] = ()) -> Batch:
    """A batch of one image; the stub does what the model's name says."""
    piece = Piece(Slot(0, 64, 1), _LAYOUT, None, 0, 1, completes=True)
    job = Job(order, 1, 9.0, piece, print, label=label, partial=list(before))
    return Batch((Slice(job, 0, 1),), "idle", 0.0)


@dataclass
class Started:
    """A device that keeps a stub running, and what it has let the service know."""

    device: WorkerDevice
    changes: "asyncio.Queue[tuple[Ready | None, str]]"
    task: "asyncio.Task[None]"

    async def heard(self, *wanted: str) -> list[str]:
        """What the service heard, up to the first of these."""
        whys: list[str] = []
        while not whys or whys[-1] not in wanted:
            ready, why = await self.changes.get()
            assert (ready is not None) is (why in {"started", "measured", "recovered"})
            whys.append(why)
        return whys

    @property
    def pid(self) -> int:
        assert self.device._life is not None
        return self.device._life.process.pid

    async def pid_of_a_batch(self) -> int:
        outcome = await self.device.run(batch())
        return int(outcome.results[0])


@asynccontextmanager
async def device(
    folder: Path,
    *orders: str,
    load_seconds: float = 60.0,
    command: list[str] | None = None,
    most_workers: int = 1,
) -> AsyncIterator[Started]:
    """``orders``: how the first, second ... worker loads; those after them load well."""
    (folder / "orders").write_text("\n".join(orders))
    arena = Arena(4096)
    settings = WorkerSettings(
        *(("stub",), "cpu", "float32", 1, 4096, "info", "json", load_seconds),
        most_workers=most_workers,
    )
    device = WorkerDevice(settings, arena, command or stub(folder))
    changes: asyncio.Queue[tuple[Ready | None, str]] = asyncio.Queue()
    task = asyncio.create_task(device.start(lambda *change: changes.put_nowait(change)))
    try:
        yield Started(device, changes, task)
    finally:
        await device.stop()
        task.cancel()
        await asyncio.wait([task])
        arena.close()


def stub(folder: Path) -> list[str]:
    return [sys.executable, "-c", _RUN_STUB, str(_ROOT), str(_STUB), str(folder / "orders")]


def within_time(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(_LIMIT):
            await test()

    asyncio.run(limited())


async def failure(work: Awaitable[Outcome]) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        await work
    return caught.value
