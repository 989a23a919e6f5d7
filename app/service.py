"""The way of an image through the house: bytes -> admitted request -> crops -> rows -> Score. Knows
no HTTP.

Everything here runs on the event loop. Decoding has processes of its own, and so has the network;
nothing of an upload is looked at here but its format and its size.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from app.batching.admission import Admission, Load, State, Ticket
from app.batching.batcher import Batcher, Device
from app.batching.errors import (
    BadAspectRatio,
    BadField,
    DeadlineExceeded,
    Internal,
    InvalidImage,
    Overloaded,
    Rejected,
    ServiceError,
    TooLarge,
    UnsupportedFormat,
    WorkerDown,
)
from app.batching.rate import Rate
from app.catalogue import PHOTOGRAPHS, Models
from app.device.arena import Arena, Slot, slot_bytes
from app.device.decoders import DecodePool, Picture, Writing
from app.device.messages import RESTART_REASONS, LoadedModel, Piece, Ready, Reloaded
from app.device.supervisor import Change, OnChange
from app.logs import request_id
from app.metrics import Metrics
from app.quarantine import Quarantine
from app.settings import Settings
from model.config import HEADS, Head
from model.errors import ImageError
from model.preprocess.crops import CropPlanner, Layout
from model.preprocess.headers import Header, read_header
from model.scores import Score

logger = logging.getLogger(__name__)

_LAG_TICK = 0.5
# From the end of the drain until what is still served is cancelled.
LAST_WORDS = 0.5
# From then until nobody waits for the worker's end any more; it ends with this process.
STOP_SECONDS = 3.5
_IMAGE_ERRORS: dict[str, type[Rejected]] = {
    error.code: error for error in (InvalidImage, UnsupportedFormat, TooLarge, BadAspectRatio)
}


@dataclass(frozen=True)
class Upload:
    """One image as it came in, with the prompt that it was generated from, and who sent it."""

    data: bytes
    filename: str | None = None
    prompt: str | None = None
    owner: str = "-"


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
    header: Header
    layout: Layout
    load: Load


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
    """Lets an image pass from one part to the next; the parts come from ``app.main``."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        admission: Admission,
        arena: Arena,
        decoders: DecodePool,
        device: SupervisedDevice,
        batcher: Batcher,
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
        self.admission = admission
        self.models = Models()
        self.quarantine = Quarantine(clock)
        self._arena = arena
        self._decoders = decoders
        self._device = device
        self._batcher = batcher
        self._on_ready = on_ready
        self._on_fatal = on_fatal
        self._tasks: set[asyncio.Task[None]] = set()
        self._decode_rate = Rate()  # of kilopixels
        self.serving: set[asyncio.Task[Any]] = set()
        self._drain: asyncio.Task[None] | None = None

    # Life

    def start(self) -> None:
        """Begins to load; ``admission.state`` shows when requests can be served."""
        self._decoders.start()
        loading = self._device.start(self._worker_changed)
        for work in (loading, self._batcher.run(), self._watch_loop()):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._task_ended)

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
        self._arena.close()

    # Scoring

    async def score(
        self, upload: Upload, model: LoadedModel, wanted: Sequence[Head] | None, deadline: float
    ) -> Scored:
        """Scores one image; ``wanted`` None: every head that the model has. The deadline is on
        ``clock``.

        Raises:
            ServiceError: there is no score; says why.
        """
        planned = self._plan(upload, model, wanted)
        ticket = self.admission.admit(model.key, planned.load, deadline)
        try:
            return await self._admitted(planned, model, deadline, ticket)
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
        plans = [await self._try_plan(upload, model, wanted) for upload in uploads]
        good = [plan for plan in plans if isinstance(plan, _Planned)]
        name, load = model.key, sum((plan.load for plan in good), Load(0, 0))
        deadline += 2 * self._batcher.scheduler.backlog_seconds({name: load.cost})
        ticket = self.admission.admit(name, load, deadline)
        try:
            work = [self._settled(plan, model, deadline, ticket) for plan in plans]
            return await asyncio.gather(*work)
        finally:
            ticket.release()  # the parts of those that never began

    async def _settled(
        self, plan: "_Planned | ServiceError", model: LoadedModel, deadline: float, ticket: Ticket
    ) -> "Scored | ServiceError":
        if isinstance(plan, ServiceError):
            return plan
        try:
            return await self._admitted(plan, model, deadline, ticket)
        except ServiceError as error:
            return error
        except Exception:
            logger.exception("an image of a batch call failed unforeseen")
            return Internal()

    async def _try_plan(
        self, upload: Upload, model: LoadedModel, wanted: Sequence[Head] | None
    ) -> "_Planned | ServiceError":
        await asyncio.sleep(0)  # between the headers of a batch call others have their turn
        try:
            return self._plan(upload, model, wanted)
        except ServiceError as error:
            return error

    def _plan(self, upload: Upload, model: LoadedModel, wanted: Sequence[Head] | None) -> _Planned:
        """What the image costs, from its header."""
        planner = CropPlanner(model.config, model.policy)
        if upload.prompt and len(upload.prompt) > self.settings.max_prompt_chars:
            raise BadField(
                f"The prompt is over {self.settings.max_prompt_chars} characters; shorten it."
            )
        header = self._header(upload.data)
        layout = planner.plan(header.width, header.height, wanted, upload.prompt)
        self.metrics.megapixels.observe(header.width * header.height / 1e6)
        self.metrics.request_crops.observe(layout.cost)
        decode_seconds = self._decode_rate.seconds(header.pixels // 1000)
        load = Load(layout.cost, slot_bytes(layout.nbytes), decode_seconds)
        return _Planned(upload, header, layout, load)

    def _header(self, data: bytes) -> Header:
        try:
            return read_header(
                data,
                max_bytes=self.settings.max_image_bytes,
                max_pixels=self.settings.max_pixels,
                max_decode_bytes=self.settings.max_decode_bytes,
            )
        except ImageError as error:
            raise _IMAGE_ERRORS[error.code](str(error)) from error

    async def _admitted(
        self, planned: _Planned, model: LoadedModel, deadline: float, ticket: Ticket
    ) -> Scored:
        """Has it decoded into shared memory and the rows computed. Slot and room are free again
        when it is answered and nobody writes into the slot any more, whichever comes last.
        """
        upload, name = planned.upload, model.config.name
        crashes = await self.quarantine.check(upload.data, upload.prompt, name)
        room = ticket.part(planned.load)
        slot = self._arena.allocate(planned.layout.nbytes)
        if slot is None:
            room.release()
            raise Overloaded(retry_after=self.admission.expected_seconds())
        writing = self._decoders.submit(self._picture(planned, slot, deadline))
        writing.when_ended(room.decoded)
        try:
            async with asyncio.timeout(max(0.0, deadline - self.clock())):
                await self._decoded(writing)
                score = await self._compute(planned, model, slot, deadline, crashes)
        except TimeoutError:
            raise DeadlineExceeded from None
        finally:
            writing.withdraw()
            writing.when_ended(lambda: self._free(slot, room))
        self._observe(name, score)
        size, grid = (planned.header.width, planned.header.height), planned.layout.grid
        return Scored(score, model, grid.is_scaled(*size), grid.boxes(*size))

    def _free(self, slot: Slot, room: Ticket) -> None:
        self._arena.release(slot)
        self.metrics.arena_bytes.set(self._arena.in_use)
        room.release()

    def _picture(self, planned: _Planned, slot: Slot, deadline: float) -> Picture:
        self.metrics.arena_bytes.set(self._arena.in_use)
        upload = planned.upload
        return Picture(upload.data, planned.header, planned.layout, slot, upload.owner, deadline)

    async def _decoded(self, writing: Writing) -> None:
        """Waits until the crops are there."""
        try:
            decoded = await writing.decoded()
        except ImageError as error:
            raise _IMAGE_ERRORS[error.code](str(error)) from error
        except OSError as error:  # no process can be started
            logger.exception("no decoder")
            raise WorkerDown from error
        self.metrics.stages.labels("decode").observe(decoded.seconds)
        self._decode_rate.observe(writing.picture.header.pixels // 1000, decoded.seconds)

    async def _compute(
        self, planned: _Planned, model: LoadedModel, slot: Slot, deadline: float, crashes: int
    ) -> Score:
        """Has the rows computed of the crops in the slot."""
        layout, upload = planned.layout, planned.upload
        record = partial(self.quarantine.record, upload.data, upload.prompt, model.config.name)
        piece = Piece(slot, layout, upload.prompt, 0, layout.rows, completes=True)
        score: Score = await self._batcher.submit(
            model.key,
            layout.rows,
            deadline,
            piece,
            shape=layout.shape,
            row_cost=layout.row_cost,
            label=request_id.get() or "",
            crashes=crashes,
            on_crashes=record,
        )
        return score

    def _observe(self, model: str, score: Score) -> None:
        for head in HEADS:
            value = getattr(score, head)
            if value is not None:
                self.metrics.score.labels(model, head).observe(value)

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
            self.metrics.ready.set(ready is not None)
        self._batcher.wake()
        if first and ready is not None:
            self._on_ready(self.models)

    def _take_in(self, ready: Ready) -> None:
        for before in self.models:
            self.metrics.model_info.remove(*_information(before))
        self.models = Models(ready.models)
        for model in ready.models:
            self._begin_with(model, ready.timings.get(model.config.name, ()))
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
            self._on_fatal(error)


def _information(model: LoadedModel) -> tuple[str, ...]:
    """The labels of ``model_info``."""
    config = model.config
    return config.name, config.method, config.revision, model.device, model.dtype
