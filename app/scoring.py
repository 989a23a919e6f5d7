"""The way of an image through the house: bytes -> admitted request -> crops -> rows -> Score. Knows
no HTTP.

Everything here runs on the event loop. Decoding has processes of its own, and so has the network;
nothing of an upload is looked at here but its format and its size.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from app.batching.admission import Admission, Load, Ticket
from app.batching.batcher import Batcher
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
from app.device.arena import Arena, Slot, slot_bytes
from app.device.decoders import DecodePool, Picture, Writing
from app.device.messages import LoadedModel, Piece
from app.device.prompts import compared, prompt_bytes
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

_IMAGE_ERRORS: dict[str, type[Rejected]] = {
    error.code: error for error in (InvalidImage, UnsupportedFormat, TooLarge, BadAspectRatio)
}


@dataclass(frozen=True)
class Upload:
    """One image as it came in, with the prompt that it was generated from, and who sent it;
    ``stages`` collects the seconds of its way through the house.
    """

    data: bytes
    filename: str | None = None
    prompt: str | None = None
    owner: str = "-"
    stages: dict[str, float] = field(default_factory=dict, compare=False)


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


@dataclass(frozen=True)
class Parts:
    """What an image passes through."""

    admission: Admission
    arena: Arena
    decoders: DecodePool
    batcher: Batcher


class Scoring:
    """Lets an image pass from one part to the next; the parts come from ``app.main``."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        parts: Parts,
        clock: Callable[[], float],
    ) -> None:
        self.quarantine = Quarantine(clock)
        self._settings = settings
        self._metrics = metrics
        self._admission = parts.admission
        self._arena = parts.arena
        self._decoders = parts.decoders
        self._batcher = parts.batcher
        self._clock = clock
        self._decode_rate = Rate()  # of kilopixels

    async def score(
        self, upload: Upload, model: LoadedModel, wanted: Sequence[Head] | None, deadline: float
    ) -> Scored:
        """Scores one image; ``wanted`` None: every head that the model has. The deadline is on
        ``clock``.

        Raises:
            ServiceError: there is no score; says why.
        """
        planned = self._plan(upload, model, wanted)
        ticket = self._admission.admit(model.key, planned.load, deadline)
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
        computing = self._batcher.scheduler.backlog_seconds({name: load.cost})
        deadline += 2 * (computing + load.prompt_seconds)
        ticket = self._admission.admit(name, load, deadline)
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
        if upload.prompt and len(upload.prompt) > self._settings.max_prompt_chars:
            raise BadField(
                f"The prompt is over {self._settings.max_prompt_chars} characters; shorten it."
            )
        header = self._header(upload.data)
        layout = planner.plan(header.width, header.height, wanted, upload.prompt)
        self._metrics.megapixels.observe(header.width * header.height / 1e6)
        self._metrics.request_crops.observe(layout.cost)
        load = Load(
            layout.cost,
            slot_bytes(layout.nbytes),
            self._decode_rate.seconds(header.pixels // 1000),
            self._prompt_seconds(model, compared(upload.prompt, layout)),
        )
        return _Planned(upload, header, layout, load)

    def _prompt_seconds(self, model: LoadedModel, prompt: str | None) -> float:
        rate = self._batcher.prompt_rates.of(model.key)
        return rate.share(prompt_bytes(prompt)) if prompt else 0.0

    def _header(self, data: bytes) -> Header:
        try:
            return read_header(
                data,
                max_bytes=self._settings.max_image_bytes,
                max_pixels=self._settings.max_pixels,
                max_decode_bytes=self._settings.max_decode_bytes,
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
            raise Overloaded(retry_after=self._admission.expected_seconds())
        writing = self._decoders.submit(self._picture(planned, slot, deadline))
        writing.when_ended(room.decoded)
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                upload.stages["decode"] = await self._decoded(writing)
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
        self._metrics.arena_bytes.set(self._arena.in_use)
        room.release()

    def _picture(self, planned: _Planned, slot: Slot, deadline: float) -> Picture:
        self._metrics.arena_bytes.set(self._arena.in_use)
        upload = planned.upload
        return Picture(upload.data, planned.header, planned.layout, slot, upload.owner, deadline)

    async def _decoded(self, writing: Writing) -> float:
        """Waits until the crops are there; the seconds that decoding them took."""
        try:
            decoded = await writing.decoded()
        except ImageError as error:
            raise _IMAGE_ERRORS[error.code](str(error)) from error
        except OSError as error:  # no process can be started
            logger.exception("no decoder")
            raise WorkerDown from error
        self._metrics.stages.labels("decode").observe(decoded.seconds)
        self._decode_rate.observe(writing.picture.header.pixels // 1000, decoded.seconds)
        return decoded.seconds

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
            stages=upload.stages,
        )
        return score

    def _observe(self, model: str, score: Score) -> None:
        for head in HEADS:
            value = getattr(score, head)
            if value is not None:
                self._metrics.score.labels(model, head).observe(value)
