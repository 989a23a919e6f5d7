"""The service's life: it loads, takes in what the worker says of itself, drains and ends. Knows no
HTTP. What it does for an image is ``app.scoring``.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from app.batching.admission import State
from app.batching.batcher import Device
from app.batching.errors import Draining
from app.batching.fairness import Priority
from app.catalogue import PHOTOGRAPHS, Models
from app.device.messages import RESTART_REASONS, LoadedModel, Ready, Reloaded
from app.device.prompts import prompt_bytes
from app.device.supervisor import Change, OnChange
from app.metrics import Metrics
from app.scoring import Parts, Scoring
from app.settings import Settings

logger = logging.getLogger(__name__)

_LAG_TICK = 0.5
# From the end of the drain until what is still served is cancelled.
LAST_WORDS = 0.5
# From then until nobody waits for the worker's end any more; it ends with this process.
STOP_SECONDS = 3.5


class SupervisedDevice(Device, Protocol):
    """A device with models to load, and a worker that may die and come back."""

    async def start(self, on_change: OnChange) -> None:
        """Loads, and returns at ``stop`` at the latest; ``on_change`` hears of what comes up and
        dies.

        Raises:
            Exception: the models can't be loaded; the service can't go on.
        """

    async def reload(self, model: str) -> Reloaded:
        """Loads the model of that name again, beside the one that serves.

        Raises:
            ReloadFailed: it can't be used.
        """

    async def stop(self) -> None:
        """Ends the worker; what it has not answered is lost."""


class Service:
    """Holds the parts, which come from ``app.main``, from start to end."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        parts: Parts,
        *,
        device: SupervisedDevice,
        clock: Callable[[], float],
        on_ready: Callable[[Models], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """``on_ready`` hears once of the models; ``on_fatal`` of what the service can't survive.

        ``serving``, the tasks of the requests under way, is kept by who makes them.
        """
        self.settings = settings
        self.metrics = metrics
        self.clock = clock
        self.scoring = Scoring(settings, metrics, parts, clock)
        self.admission = parts.admission
        self.models = Models()
        self._slots = parts.slots
        self._decoders = parts.decoders
        self._device = device
        self._batcher = parts.batcher
        self._on_ready = on_ready
        self._on_fatal = on_fatal
        self._tasks: set[asyncio.Task[None]] = set()
        self.serving: set[asyncio.Task[Any]] = set()
        self._drain: asyncio.Task[None] | None = None
        self._retired_at: float | None = None
        self._is_broken = False

    # Life

    def start(self) -> None:
        """Begins to load; ``admission.state`` shows when requests can be served."""
        self._decoders.start()
        loading = self._device.start(self._worker_changed)
        for work in (loading, self._batcher.run(), self._watch_loop()):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._task_ended)

    def require_ready(self) -> None:
        """Raises Loading, WorkerDown or Draining unless requests should be sent here: from
        ``retire`` on no longer, though those that come are still served.
        """
        if self._retired_at is not None:
            raise Draining
        self.admission.require_open()

    def retire(self) -> bool:
        """Readiness falls, for good; whether the delay is over for which requests are still taken,
        since those who send them hear of it a little later.
        """
        if self._retired_at is None:
            self._retired_at = self.clock()
            self.metrics.ready.set(0)
            if self._delay:
                logger.info("not ready any more; the drain begins in %g s", self._delay)
        return self.clock() >= self._retired_at + self._delay

    @property
    def _delay(self) -> float:
        # Before the first worker is up nobody sends requests here; a broken service serves none.
        return self.settings.drain_delay_seconds if self.models and not self._is_broken else 0.0

    def begin_drain(self) -> None:
        """Takes no new requests from now on; what was admitted is finished, until its time is
        over. On the event loop, never in the handler of a signal.
        """
        if self._drain is None:
            self.admission.state = State.DRAINING
            self.metrics.ready.set(0)
            self._drain = asyncio.create_task(self._finish())

    async def _finish(self) -> None:
        """Until nothing is served any more; what is when the time is over is cancelled."""
        end = self.clock() + self.settings.drain_seconds
        await self._batcher.drain(self.admission.empty(), self.settings.drain_seconds)
        if self.serving:
            # Whom the batcher has refused answers of itself; the time is for the others.
            await asyncio.wait(self.serving, timeout=max(LAST_WORDS, end - self.clock()))
        for request in self.serving:
            request.cancel()

    def condition(self) -> dict[str, Any]:
        """What it does now, and the limits in effect: for operators, without secrets."""
        settings, queued = self.settings, self._batcher.scheduler.queued
        return {
            "state": self.admission.state.value,
            "retired": self._retired_at is not None,
            "worker_up": self._device.up,
            "models": [
                {"name": m.config.name, "revision": m.config.revision}
                | {"device": m.device, "dtype": m.dtype}
                for m in self.models
            ],
            "queue": {"images": len(queued), "rows": sum(job.cost for job in queued)},
            "admitted": {"rows": self.admission.cost, "crop_bytes": self.admission.bytes},
            "backlog_seconds": {
                priority: round(self.admission.expected_seconds(priority), 3)
                for priority in Priority
            },
            "margin": round(self.admission.margin.factor, 3),
            "limits": {
                "rows": settings.max_rows,
                "crop_bytes": settings.arena_bytes,
                "image_bytes": settings.max_image_bytes,
                "body_bytes": settings.max_body_bytes,
                "megapixels": settings.max_megapixels,
                "decode_bytes": settings.max_decode_bytes,
                "batch_images": settings.max_batch_images,
                "batch_rows": settings.max_batch_rows,
                "batch_seconds": settings.max_batch_seconds,
                "decode_workers": settings.decode_workers,
                "deadline_seconds": settings.deadline_seconds,
            },
        }

    async def stop(self) -> None:
        """Drains, then ends the worker and gives everything back."""
        self.begin_drain()
        if self._drain:
            await self._drain
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._device.stop()
        for task in list(self._tasks):
            task.cancel()
        await self._decoders.close()
        self._slots.close()

    # What happens around it

    def _worker_changed(self, ready: Ready | None, why: Change) -> None:
        first = not self.models
        if ready is not None and why == "started":
            self._take_in(ready)
        elif why in RESTART_REASONS:
            self.metrics.worker_restarts.labels(why).inc()
        device = next((model.device for model in self.models), self.settings.device)
        self.metrics.worker_up.labels(device).set(ready is not None)
        if self.admission.state is not State.DRAINING:
            down = State.WORKER_DOWN if self.models else State.LOADING
            self.admission.state = State.READY if ready is not None else down
            self.metrics.ready.set(ready is not None and self._retired_at is None)
        self._batcher.wake()
        if first and ready is not None:
            self._on_ready(self.models)

    def _take_in(self, ready: Ready) -> None:
        for before in self.models:
            self.metrics.model_info.remove(*_information(before))
        self.models = Models(ready.models)
        for model in ready.models:
            self._begin_with(model, ready.timings.get(model.config.name, ()))
        for key, seconds in ready.prompt_seconds.items():
            # Until some were computed: as if it filled the sequence of tokens that it is.
            self._batcher.prompt_rates.of(key).observe(prompt_bytes(""), seconds)
        served = ", ".join(
            f"{endpoint} by {name}" for endpoint, name in self.models.defaults.items()
        )
        device, dtype = ready.models[0].device, ready.models[0].dtype
        names = [m.config.name for m in ready.models]
        fields = {"models": names, "device": device, "dtype": dtype}
        logger.info("ready on %s in %s: %s by default", device, dtype, served, extra=fields)

    async def reload(self, name: str) -> LoadedModel:
        """Loads a model again from where it came from, and serves it from then on; what was planned
        for the one before is finished by that.

        Raises:
            UnknownModel: no such model is loaded.
            ReloadFailed: it can't be used; the one before goes on serving.
        """
        self.models.choose(name, PHOTOGRAPHS)
        reloaded = await self._device.reload(name)
        before = self.models.choose(name, PHOTOGRAPHS)
        model = reloaded.model
        self.metrics.model_info.remove(*_information(before))
        self.models = Models([model if m is before else m for m in self.models])
        self._begin_with(model, reloaded.timings)
        logger.info("%s: %s serves in place of %s", name, model.key, before.key)
        return model

    def _begin_with(self, model: LoadedModel, timings: Sequence[tuple[int, float]]) -> None:
        for cost, seconds in timings:
            self._batcher.scheduler.rates.of(model.key).observe(cost, seconds)
        self.metrics.model_info.labels(*_information(model)).set(1)
        for head in model.config.heads:
            self.metrics.score.labels(model.config.name, head)

    async def _watch_loop(self) -> None:
        while True:
            due = self.clock() + _LAG_TICK
            await asyncio.sleep(_LAG_TICK)
            self.metrics.loop_lag.set(max(0.0, self.clock() - due))

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # A worker that is stopped while it loads fails too, and that is no news then.
        if not task.cancelled() and (error := task.exception()) and self._drain is None:
            logger.critical("the service can't go on: %s", error)
            self._is_broken = True
            self._on_fatal(error)


def _information(model: LoadedModel) -> tuple[str, ...]:
    """The labels of ``model_info``."""
    config = model.config
    return config.name, config.method, config.revision, model.device, model.dtype
