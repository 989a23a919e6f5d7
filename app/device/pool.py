"""All workers of the service: each is started, watched and started again by itself, and they serve
as long as one of them is up.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from app.batching.batcher import Device
from app.batching.errors import ReloadFailed
from app.device.messages import Ready, Reloaded
from app.device.supervisor import Change, OnChange

logger = logging.getLogger(__name__)

# Hears of the worker of that number what ``OnChange`` hears of one.
OnAnyChange = Callable[[int, Ready | None, Change], None]
# Seconds after which a worker that could not load its models, while another one could, tries again.
_TRY_AGAIN = 30.0


class SupervisedDevice(Device, Protocol):
    """A device with models to load, and a worker that may die and come back."""

    async def start(self, on_change: OnChange) -> None:
        """Loads, and returns at ``stop`` at the latest; ``on_change`` hears of what comes up and
        dies, and may raise WorkerRefused of one that comes up.

        Raises:
            Exception: the models can't be loaded; it is of no use to try again at once.
        """

    async def reload(self, model: str, serves: str) -> Reloaded:
        """Loads the model of that name again, beside the one that serves, whose key is given.

        Raises:
            ReloadFailed: it can't be used.
        """

    async def stop(self) -> None:
        """Ends the worker; what it has not answered is lost."""


class Pool:
    """The workers, by their numbers."""

    def __init__(self, devices: Sequence[SupervisedDevice]) -> None:
        self.devices = list(devices)
        self._failed: dict[int, Exception] = {}
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_change: OnAnyChange  # from ``start`` on
        self._over: asyncio.Future[None]

    @property
    def up(self) -> bool:
        """Whether batches can be handed to any."""
        return any(device.up for device in self.devices)

    def others_up(self, number: int) -> bool:
        """Whether any is up but that one."""
        return any(d.up for other, d in enumerate(self.devices) if other != number)

    async def start(self, on_change: OnAnyChange) -> None:
        """Keeps all of them running until ``stop``.

        Raises:
            Exception: none can load its models; the service can't go on.
        """
        self._on_change = on_change
        self._over = asyncio.get_running_loop().create_future()
        for number in range(len(self.devices)):
            self._begin(number)
        try:
            await self._over
        finally:
            for task in list(self._tasks):
                task.cancel()

    def grow(self, device: SupervisedDevice) -> None:
        """One more worker, after ``start``; it is kept running like the others."""
        self.devices.append(device)
        self._begin(len(self.devices) - 1)

    def _begin(self, number: int) -> None:
        task = asyncio.create_task(self._keep(number))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if self._over.done():
            return
        if error is not None:
            self._over.set_exception(error)
        elif not self._tasks:
            self._over.set_result(None)

    async def reload(self, model: str, serves: str) -> dict[int, Reloaded]:
        """Has every worker that is up load a model again, those too that come up meanwhile.

        Raises:
            ReloadFailed: one of them can't use it, or none is up; the one before goes on serving.
        """
        done: dict[int, Reloaded] = {}
        while missing := [n for n, d in enumerate(self.devices) if d.up and n not in done]:
            loads = (self.devices[number].reload(model, serves) for number in missing)
            results = await asyncio.gather(*loads, return_exceptions=True)
            for number, result in zip(missing, results, strict=True):
                if isinstance(result, BaseException):
                    raise result
                done[number] = result
        if not done:
            raise ReloadFailed("No worker is up; try again when the service is ready.")
        if len({reloaded.model.key for reloaded in done.values()}) > 1:
            raise ReloadFailed(f"The files of {model} changed while they were read; try again.")
        return done

    async def stop(self) -> None:
        """Ends all of them."""
        self._stopping = True
        await asyncio.gather(*(device.stop() for device in self.devices))

    async def _keep(self, number: int) -> None:
        def heard(ready: Ready | None, why: Change) -> None:
            self._on_change(number, ready, why)

        while not self._stopping:
            try:
                await self.devices[number].start(heard)
                return
            except Exception as error:
                self._failed[number] = error
                if len(self._failed) == len(self.devices):
                    raise
                logger.error("worker %d can't start, others serve: %s", number, error)
            await asyncio.sleep(_TRY_AGAIN)
            del self._failed[number]
