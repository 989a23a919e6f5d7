"""The way of an image through the house: bytes -> admitted request -> crops -> rows -> Score. Knows
no HTTP.

Everything here runs on the event loop, except decoding, which has threads of its own, and the
network, which has a process of its own.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from app.admission import Admission, Ceilings, State, Ticket
from app.arena import Arena
from app.batcher import Batcher
from app.catalogue import default_models
from app.device import WorkerDevice
from app.errors import (
    BadAspectRatio,
    BadField,
    DeadlineExceeded,
    InvalidImage,
    Overloaded,
    Rejected,
    ServiceError,
    TooLarge,
    UnknownModel,
    UnsupportedFormat,
)
from app.messages import LoadedModel, Piece, Ready, WorkerSettings
from app.metrics import Metrics
from app.rate import Rates
from app.scheduler import Limits, Scheduler
from app.settings import Settings
from model import images
from model.config import Head
from model.crops import CropPlanner, Layout
from model.errors import ImageError
from model.scores import Score
from model.windows import place_windows

logger = logging.getLogger(__name__)

_LAG_TICK = 0.5
_IMAGE_ERRORS: dict[str, type[Rejected]] = {
    error.code: error for error in (InvalidImage, UnsupportedFormat, TooLarge, BadAspectRatio)
}


@dataclass(frozen=True)
class Upload:
    """One image as it came in, with the prompt that it was generated from."""

    data: bytes
    filename: str | None = None
    prompt: str | None = None


@dataclass(frozen=True)
class Scored:
    """A Score and what an answer says around it."""

    score: Score
    model: LoadedModel
    scaled: bool
    boxes: list[tuple[int, int, int, int]]


@dataclass(frozen=True)
class _Planned:
    upload: Upload
    header: images.Header
    heads: tuple[Head, ...]
    layout: Layout

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the crops in shared memory: [n, 3, h, w]."""
        return (self.layout.crops, 3, *self.layout.shape)

    @property
    def bytes(self) -> int:
        """What the crops take."""
        return math.prod(self.shape)


class Service:
    """Owns the door, the shared memory, the batcher and the worker."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics, self.clock = settings, metrics, time.monotonic
        self.models: dict[str, LoadedModel] = {}
        self.defaults: dict[str, str] = {}  # endpoint -> the model that serves it
        self._planners: dict[str, CropPlanner] = {}
        limits = Limits(settings.max_batch_seconds, settings.max_batch_rows)
        self._scheduler = Scheduler(limits, Rates())
        ceilings = Ceilings(settings.max_rows, settings.arena_bytes)
        self.door = Admission(ceilings, self._scheduler.backlog_seconds, self.clock)
        self._arena = Arena(settings.arena_bytes)
        self._device = WorkerDevice(self._worker_settings(), self._arena, self._worker_changed)
        self._batcher = Batcher(self._scheduler, self._device, metrics, self.clock)
        self._decoders = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.watch_queue(self._scheduler, self.clock)

    # Life

    def start(self) -> None:
        """Begins to load; ``door.state`` tells when requests can be served."""
        for work in (self._load(), self._batcher.run(), self._watch_loop()):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._task_ended)

    def begin_drain(self) -> None:
        """Takes no new requests from now on; what was admitted is finished."""
        self.door.state = State.DRAINING
        self.metrics.ready.set(0)

    async def stop(self) -> None:
        """Drains, then ends the worker and gives everything back."""
        self.begin_drain()
        await self._batcher.drain(self.settings.drain_seconds)
        await self._device.stop()
        for task in list(self._tasks):
            task.cancel()
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._arena.close()

    # Scoring

    def choose(self, name: str | None, endpoint: str) -> LoadedModel:
        """The loaded model of that name; None: the endpoint's default.

        Raises:
            UnknownModel: no such model is loaded.
        """
        self.door.require_open()
        chosen = self.defaults[endpoint] if name is None else name
        if chosen not in self.models:
            raise UnknownModel(
                f"No model {chosen!r} is loaded; choose one of {', '.join(self.models)}."
            )
        return self.models[chosen]

    async def score(
        self, upload: Upload, model: LoadedModel, wanted: Sequence[Head] | None, deadline: float
    ) -> Scored:
        """Scores one image; ``wanted`` None: every head that the model has. The deadline is on
        ``clock``.

        Raises:
            ServiceError: there is no score; says why.
        """
        planned = self._plan(upload, model, wanted)
        ticket = self.door.admit(model.config.name, planned.layout.cost, planned.bytes, deadline)
        try:
            return await self._admitted(planned, model, deadline)
        finally:
            ticket.release()

    async def score_many(
        self,
        uploads: Sequence[Upload],
        model: LoadedModel,
        wanted: Sequence[Head] | None,
        deadline: float,
    ) -> list[Scored | ServiceError]:
        """Scores several images, admitted together; one that fails gives its error, the others
        their scores.

        The deadline is moved back by the time that the images are expected to take.
        """
        plans = [self._try_plan(upload, model, wanted) for upload in uploads]
        good = [plan for plan in plans if isinstance(plan, _Planned)]
        name, cost = model.config.name, sum(plan.layout.cost for plan in good)
        deadline += 2 * self._scheduler.backlog_seconds({name: cost})
        ticket = self.door.admit(name, cost, sum(plan.bytes for plan in good), deadline)
        try:
            work = [self._settled(plan, model, deadline, ticket) for plan in plans]
            return await asyncio.gather(*work)
        finally:
            ticket.release()

    async def _settled(
        self, plan: "_Planned | ServiceError", model: LoadedModel, deadline: float, ticket: Ticket
    ) -> "Scored | ServiceError":
        if isinstance(plan, ServiceError):
            return plan
        try:
            return await self._admitted(plan, model, deadline)
        except ServiceError as error:
            return error
        finally:
            ticket.give_back(plan.layout.cost, plan.bytes)

    def _try_plan(
        self, upload: Upload, model: LoadedModel, wanted: Sequence[Head] | None
    ) -> "_Planned | ServiceError":
        try:
            return self._plan(upload, model, wanted)
        except ServiceError as error:
            return error

    def _plan(self, upload: Upload, model: LoadedModel, wanted: Sequence[Head] | None) -> _Planned:
        """What the image costs, from its header."""
        planner = self._planners[model.config.name]
        if upload.prompt and len(upload.prompt) > self.settings.max_prompt_chars:
            raise BadField(
                f"The prompt is over {self.settings.max_prompt_chars} characters; shorten it."
            )
        header = self._header(upload.data)
        heads = planner.heads(wanted, prompted=bool(upload.prompt))
        layout = planner.layout(header.width, header.height, heads)
        self.metrics.megapixels.observe(header.width * header.height / 1e6)
        self.metrics.request_crops.observe(layout.cost)
        return _Planned(upload, header, heads, layout)

    def _header(self, data: bytes) -> images.Header:
        try:
            return images.read_header(
                data, max_bytes=self.settings.max_image_bytes, max_pixels=self.settings.max_pixels
            )
        except ImageError as error:
            raise _IMAGE_ERRORS[error.code](str(error)) from error

    async def _admitted(self, planned: _Planned, model: LoadedModel, deadline: float) -> Scored:
        """Decodes into shared memory, has the rows computed, and gives the memory back."""
        offset = self._arena.allocate(planned.bytes)
        if offset is None:
            raise Overloaded(retry_after=self.door.expected_seconds())
        planner = self._planners[model.config.name]
        try:
            async with asyncio.timeout(max(0.0, deadline - self.clock())):
                work = partial(self._decode, planned, planner, offset)
                self.metrics.stages.labels("decode").observe(await _in_thread(self._decoders, work))
                score = await self._compute(planned, model.config.name, offset, deadline)
        except TimeoutError:
            raise DeadlineExceeded from None
        finally:
            self._arena.release(offset, planned.bytes)
        self._observe(model.config.name, score)
        width, height = planned.header.width, planned.header.height
        boxes = place_windows(planner.policy, width, height).boxes(width, height)
        return Scored(score, model, planner.is_scaled(width, height), boxes)

    async def _compute(self, planned: _Planned, model: str, offset: int, deadline: float) -> Score:
        """Has the rows computed of crops that lie at ``offset``."""
        layout, rows = planned.layout, len(planned.layout.row_crop)
        piece = Piece(
            offset,
            layout.crops,
            layout.windows,
            layout.shape,
            planned.heads,
            planned.upload.prompt,
            start=0,
            stop=rows,
            completes=True,
        )
        score: Score = await self._batcher.submit(
            model, rows, deadline, piece, shape=layout.shape, row_cost=layout.row_cost
        )
        return score

    def _decode(self, planned: _Planned, planner: CropPlanner, offset: int) -> float:
        """In a thread: bytes to crops in shared memory; returns the seconds that it took."""
        start = self.clock()
        try:
            image = images.decode(planned.upload.data)
        except ImageError as error:
            raise _IMAGE_ERRORS[error.code](str(error)) from error
        if image.size != (planned.header.width, planned.header.height):
            raise InvalidImage("The image's header and its content differ in size; save it again.")
        planner.cut(image, self._arena.view(offset, planned.shape))
        return self.clock() - start

    def _observe(self, model: str, score: Score) -> None:
        for head in ("quality", "alignment", "consistency"):
            value = getattr(score, head)
            if value is not None:
                self.metrics.score.labels(model, head).observe(value)

    # What happens around it

    async def _load(self) -> None:
        await self._device.start()

    def _worker_changed(self, ready: Ready | None, why: str) -> None:
        device = self.settings.device
        first = not self.models
        if ready is not None:
            self._take_in(ready)
            device = ready.models[0].device
        elif self.models:
            device = next(iter(self.models.values())).device
        self.metrics.worker_up.labels(device).set(ready is not None)
        if ready is None:
            self.metrics.worker_restarts.labels(why).inc()
        if self.door.state is not State.DRAINING:
            self.door.state = State.READY if ready is not None else State.WORKER_DOWN
            self.metrics.ready.set(ready is not None)
        self._batcher.wake()
        if first and ready is not None:
            self.became_ready()

    def _take_in(self, ready: Ready) -> None:
        self.models = {m.config.name: m for m in ready.models}
        self._planners = {m.config.name: CropPlanner(m.config, m.policy) for m in ready.models}
        self.defaults = default_models([m.config for m in ready.models])
        for model, timings in ready.timings.items():
            for cost, seconds in timings:
                self._scheduler.rates.of(model).observe(cost, seconds)
        for m in ready.models:
            c = m.config
            self.metrics.model_info.labels(c.name, c.method, c.revision, m.device, m.dtype).set(1)
            for head in c.heads:
                self.metrics.score.labels(c.name, head)
        served = ", ".join(f"{endpoint} by {name}" for endpoint, name in self.defaults.items())
        device, dtype = ready.models[0].device, ready.models[0].dtype
        fields = {"models": list(self.models), "device": device, "dtype": dtype}
        logger.info("ready on %s in %s: %s by default", device, dtype, served, extra=fields)

    def _worker_settings(self) -> WorkerSettings:
        s = self.settings
        return WorkerSettings(
            s.models, s.device, s.dtype, s.threads, s.arena_bytes, s.log_level, s.log_format
        )

    async def _watch_loop(self) -> None:
        while True:
            due = self.clock() + _LAG_TICK
            await asyncio.sleep(_LAG_TICK)
            self.metrics.loop_lag.set(max(0.0, self.clock() - due))

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.critical("the service can't go on: %s", error)
            self.failed_to_start(error)

    def became_ready(self) -> None:
        """Replaced by the composition root: what to tell when the models are loaded at last."""

    def failed_to_start(self, error: BaseException) -> None:
        """Replaced by the composition root: what to do when the models can't be loaded."""


async def _in_thread(pool: ThreadPoolExecutor, work: Callable[[], float]) -> float:
    """Runs ``work`` in the pool; when cancelled, waits until it has really ended, since it writes
    into shared memory.
    """
    job = pool.submit(work)
    try:
        return await asyncio.shield(asyncio.wrap_future(job))
    except asyncio.CancelledError:
        if not job.cancel():
            await asyncio.wait([asyncio.wrap_future(job)])
        raise
