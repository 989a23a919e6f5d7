"""Workers as one: a real process that is refused, and two of which one is killed."""

import asyncio
import os
import signal
from pathlib import Path

from app.batching.jobs import Fault
from app.device.arena import Arena
from app.device.messages import Ready, WorkerSettings
from app.device.pool import Pool
from app.device.supervisor import Change, WorkerDevice, WorkerRefused
from tests.app.device.supervised import batch, failure, stub, within_time

SETTINGS = WorkerSettings(("stub",), "cpu", "float32", 1, 4096, "info", "json", 60.0)


def test_a_worker_that_is_refused_is_ended_and_another_one_is_started_in_its_place(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        heard: asyncio.Queue[tuple[int, Change, bool]] = asyncio.Queue()
        refusals = [WorkerRefused("other files")]
        arena = Arena(4096)
        (tmp_path / "orders").write_text("")
        pool = Pool([WorkerDevice(SETTINGS, arena, stub(tmp_path))])

        def changed(number: int, ready: Ready | None, why: Change) -> None:
            if ready is not None and refusals:
                raise refusals.pop()
            heard.put_nowait((number, why, pool.up))

        task = asyncio.create_task(pool.start(changed))
        assert await heard.get() == (0, "start_failed", False)
        assert await heard.get() == (0, "started", True)
        assert (await pool.devices[0].run(batch())).results
        await pool.stop()
        await asyncio.wait([task])
        arena.close()

    within_time(test)


def test_a_kill_of_one_worker_leaves_the_batch_of_the_other_alone(tmp_path: Path) -> None:
    async def test() -> None:
        up: asyncio.Queue[int] = asyncio.Queue()
        arena = Arena(4096)
        (tmp_path / "orders").write_text("")
        devices = [WorkerDevice(SETTINGS, arena, stub(tmp_path)) for _ in range(2)]
        pool = Pool(devices)

        def changed(number: int, ready: Ready | None, why: Change) -> None:
            if ready is not None:
                up.put_nowait(number)

        task = asyncio.create_task(pool.start(changed))
        assert {await up.get(), await up.get()} == {0, 1}
        pids = [int((await device.run(batch())).results[0]) for device in devices]
        hanging = asyncio.create_task(devices[0].run(batch("hang")))
        await asyncio.sleep(0)
        os.kill(pids[0], signal.SIGKILL)
        outcome = await devices[1].run(batch())
        assert outcome.results == [pids[1]]
        assert (await failure(hanging)).fault is Fault.WORKER_DIED
        assert await up.get() == 0
        await pool.stop()
        await asyncio.wait([task])
        arena.close()

    within_time(test)
