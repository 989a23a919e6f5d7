"""The service's life: it loads, takes in what the worker says of itself, drains and ends. Knows no
HTTP. What it does for an image is ``app.scoring``.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from app.batching.admission import State
from app.batching.errors import Draining
from app.batching.fairness import Priority
from app.batching.lending import Lender, Lending
from app.batching.workers import WorkerLane
from app.catalogue import PHOTOGRAPHS, Models
from app.device.messages import RESTART_REASONS, LoadedModel, Ready
from app.device.pool import Pool, SupervisedDevice
from app.device.prompts import prompt_bytes
from app.device.supervisor import Change, WorkerRefused
from app.metrics import Metrics
from app.scoring import Parts, Scoring
from app.settings import Settings

logger = logging.getLogger(__name__)

# In place of what was measured: more workers may begin then.
MEASURED_SOON = "being measured"
_LAG_TICK = 0.5
# From the end of the drain until what is still served is cancelled.
LAST_WORDS = 0.5
# From then until nobody waits for the worker's end any more; it ends with this process.
STOP_SECONDS = 3.5


class Service:
    """Holds the parts, which come from ``app.main``, from start to end."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        parts: Parts,
        *,
        pool: Pool,
        one_more: Callable[[int], SupervisedDevice],
        clock: Callable[[], float],
        on_ready: Callable[[Models], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """``one_more``: makes a further worker, of so many threads. ``on_ready`` hears once of the
        models; ``on_fatal`` of what the service can't survive.

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
        self._pool = pool
        self._one_more = one_more
        self._devices = list(settings.worker_devices)
        self._batcher = parts.batcher
        self._lanes = parts.batcher.scheduler.lanes
        # What each worker reported; that of one which is down is not forgotten.
        self._reports: list[Ready | None] = [None] * len(pool.devices)
        self._on_ready = on_ready
        self._on_fatal = on_fatal
        self._tasks: set[asyncio.Task[None]] = set()
        self.serving: set[asyncio.Task[Any]] = set()
        self._drain: asyncio.Task[None] | None = None
        self._retired_at: float | None = None
        self._is_broken = False
        for lane in self._lanes:
            lane.well = False  # until it is up
        self._named: set[str] = set()  # devices that are counted
        self._has_all_cores: int | None = None  # the worker that has measured how to share them

    # Life

    def start(self) -> None:
        """Begins to load; ``admission.state`` shows when requests can be served."""
        self._decoders.start()
        loading = self._pool.start(self._worker_changed)
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
            "worker_up": self._pool.up,
            "workers": [self._condition_of(lane) for lane in self._lanes],
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
            "sharing": self._sharing(),
            "margin": round(self.admission.margin.factor, 3),
            "limits": {
                "rows": settings.max_rows,
                "crop_bytes": settings.arena_bytes,
                "image_bytes": settings.max_image_bytes,
                "body_bytes": settings.max_body_bytes,
                "megapixels": settings.max_megapixels,
                "decode_bytes": settings.max_decode_bytes,
                "batch_images": settings.max_batch_images,
                "batch_rows": max(lane.batch_rows for lane in self._lanes),
                "batch_seconds": settings.max_batch_seconds,
                "decode_workers": settings.decode_workers,
                "deadline_seconds": settings.deadline_seconds,
            },
        }

    def _sharing(self) -> dict[str, Any] | str | None:
        """How workers share the CPU, where that is measured."""
        if lender := self._lanes.lender:
            return dataclasses.asdict(lender.lending)
        return MEASURED_SOON if any(r and r.measures for r in self._reports) else None

    def _condition_of(self, lane: WorkerLane) -> dict[str, Any]:
        """What one worker does now."""
        rates = {
            model.config.name: self._lanes.seconds(lane, model.key, 1) for model in self.models
        }
        return {
            "device": self._device_of(lane.number),
            "up": self._pool.devices[lane.number].up,
            "responsive": lane.well,
            "batches": len(lane.running),
            "batch_rows": lane.batch_rows,
            "rows_per_second": {name: round(1 / each, 1) for name, each in rates.items() if each},
        }

    async def stop(self) -> None:
        """Drains, then ends the workers and gives everything back."""
        self.begin_drain()
        if self._drain:
            await self._drain
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._pool.stop()
        for task in list(self._tasks):
            task.cancel()
        await self._decoders.close()
        self._slots.close()

    # What happens around it

    def _worker_changed(self, number: int, ready: Ready | None, why: Change) -> None:
        first = not self.models
        if ready is not None and why == "started":
            self._take_in(number, ready)
        elif ready is not None and why == "measured":
            self._share_cores(number, ready.lending)
        elif why in RESTART_REASONS:
            self.metrics.worker_restarts.labels(why).inc()
            self.metrics.hold_gpu_memory(number, self._device_of(number), 0)
        self._lanes[number].well = ready is not None
        self._count_workers()
        any_well = any(lane.well for lane in self._lanes)
        if self.admission.state is not State.DRAINING:
            down = State.WORKER_DOWN if self.models else State.LOADING
            self.admission.state = State.READY if any_well else down
            self.metrics.ready.set(any_well and self._retired_at is None)
        self._batcher.wake()
        if first and ready is not None:
            self._on_ready(self.models)

    def _count_workers(self) -> None:
        """By the device: how many there are, and how many are up."""
        names = [self._device_of(lane.number) for lane in self._lanes]
        for name in self._named.difference(names):
            self.metrics.workers.remove(name)
            self.metrics.worker_up.remove(name)
        self._named = set(names)
        for name in self._named:
            self.metrics.workers.labels(name).set(names.count(name))
            up = (lane.well for lane, own in zip(self._lanes, names, strict=True) if own == name)
            self.metrics.worker_up.labels(name).set(sum(up))

    def _device_of(self, number: int) -> str:
        """As the worker, or another one of the same setting, names it; before that, the setting."""
        reports = zip(self._devices, self._reports, strict=True)
        alike = (report for device, report in reports if device == self._devices[number])
        report = self._reports[number] or next(filter(None, alike), None)
        return report.models[0].device if report else self._devices[number]

    def _take_in(self, number: int, ready: Ready) -> None:
        """A worker came up.

        Raises:
            WorkerRefused: it would serve other models than those that are up.
        """
        if self._pool.others_up(number):
            self._require_same(ready)
        else:
            self._show(self.models, shown=False)
            self.models = Models(ready.models)
            self.scoring.forget_scores()
        self._reports[number] = ready
        self._lanes[number].batch_rows = self.settings.batch_rows(self._device_of(number))
        self.metrics.hold_gpu_memory(number, self._device_of(number), 0)
        self._show(ready.models, shown=True)
        # One that died and came back has tried itself out with all cores, which it shares by now.
        lender = self._lanes.lender if number == self._has_all_cores else None
        slower = lender.lending.speedup if lender else 1.0
        for model in ready.models:
            timings = ready.timings.get(model.config.name, ())
            self._begin_with(number, model, [(cost, slower * took) for cost, took in timings])
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

    def _share_cores(self, number: int, lending: Lending | None) -> None:
        """Starts as many workers as the first one measured to be best."""
        if lending is None or self._lanes.lender is not None:
            return
        self._lanes.lender = Lender(lending)
        # What it has computed until now it did with all cores.
        self._lanes[number].rates.slow_down(lending.speedup)
        self._has_all_cores = number
        found = (lending.workers, lending.threads, lending.gain)
        text = "workers on this CPU: %d, threads of each: %d; %.2f of the speed of one with all"
        logger.info(text, *found)
        for _ in range(lending.workers - 1):
            device = self._one_more(lending.threads)
            self._reports.append(None)
            self._devices.append(self.settings.device)
            self._batcher.grow(device)
            self._pool.grow(device)

    def _require_same(self, ready: Ready) -> None:
        wanted = {model.config.name: model.key for model in self.models}
        found = {model.config.name: model.key for model in ready.models}
        if found != wanted:
            unlike = ", ".join(sorted(n for n in wanted | found if wanted.get(n) != found.get(n)))
            raise WorkerRefused(
                f"it loaded another revision of {unlike} than those that serve: restore the files, "
                "or have all workers load them by POST /models/NAME/reload"
            )

    def _show(self, models: Iterable[LoadedModel], *, shown: bool) -> None:
        """Models are served from now on, or are not any more, on whatever devices."""
        devices = {(m.device, m.dtype) for report in self._reports if report for m in report.models}
        for model in models:
            if shown:
                self.metrics.model_info.labels(*_information(model)).set(1)
                continue
            for device, dtype in {*devices, (model.device, model.dtype)}:
                labels = _information(dataclasses.replace(model, device=device, dtype=dtype))
                with contextlib.suppress(KeyError):  # not on that one
                    self.metrics.model_info.remove(*labels)

    async def reload(self, name: str) -> LoadedModel:
        """Loads a model again from where it came from, and serves it from then on; what was planned
        for the one before is finished by that.

        Raises:
            UnknownModel: no such model is loaded.
            ReloadFailed: it can't be used; the one before goes on serving.
        """
        self.models.choose(name, PHOTOGRAPHS)
        reloads = await self._pool.reload(name, self.models.choose(name, PHOTOGRAPHS).key)
        before = self.models.choose(name, PHOTOGRAPHS)
        self._show([before], shown=False)
        model = next(iter(reloads.values())).model
        self.models = Models([model if m is before else m for m in self.models])
        self.scoring.forget_scores()
        for number, reloaded in reloads.items():
            self._show([reloaded.model], shown=True)
            self._begin_with(number, reloaded.model, reloaded.timings)
        logger.info("%s: %s serves in place of %s", name, model.key, before.key)
        return model

    def _begin_with(
        self, number: int, model: LoadedModel, timings: Sequence[tuple[int, float]]
    ) -> None:
        for cost, seconds in timings:
            self._lanes[number].rates.of(model.key).observe(cost, seconds)
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
