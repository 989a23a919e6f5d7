"""The way of an image through the house: bytes -> admitted request -> crops -> rows -> Score. Knows
no HTTP.

Everything here runs on the event loop. Decoding has processes of its own, and so has the network;
nothing of an upload is looked at here but its format and its size.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from app.answer_cache import Urgency
from app.batching.admission import Admission
from app.batching.batcher import Batcher
from app.batching.errors import (
    BadAspectRatio,
    BadField,
    DeadlineExceeded,
    Internal,
    InvalidImage,
    Rejected,
    ServiceError,
    TooLarge,
    UnsupportedFormat,
    WorkerDown,
)
from app.batching.fairness import Priority, Sender
from app.batching.lane import Lane
from app.batching.ledger import Load, Ticket
from app.batching.rate import Rate
from app.device.arena import Slot, slot_bytes
from app.device.decoders import DecodePool, Picture, Writing
from app.device.messages import LoadedModel, Piece
from app.device.prompts import compared, prompt_bytes
from app.device.slots import Slots
from app.logs import request_id
from app.metrics import Metrics
from app.quarantine import Quarantine
from app.score_cache import ScoreCache
from app.settings import Settings
from app.uploads import Planned, Upload, load_of
from model.config import HEADS, Head
from model.errors import ImageError
from model.preprocess.crops import CropPlanner
from model.preprocess.headers import Header, read_header
from model.scores import Score

logger = logging.getLogger(__name__)

_IMAGE_ERRORS: dict[str, type[Rejected]] = {
    error.code: error for error in (InvalidImage, UnsupportedFormat, TooLarge, BadAspectRatio)
}


@dataclass(frozen=True)
class Scored:
    """A Score and what an answer says around it."""

    score: Score
    model: LoadedModel
    scaled: bool
    boxes: list[tuple[int, int, int, int]]


@dataclass(frozen=True)
class Parts:
    """What an image passes through."""

    admission: Admission
    lane: Lane
    slots: Slots
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
        most = settings.cache_answers
        self.cache = ScoreCache(most, metrics, clock) if most else None
        self._settings = settings
        self._metrics = metrics
        self._admission = parts.admission
        self._lane = parts.lane
        self._slots = parts.slots
        self._decoders = parts.decoders
        self._batcher = parts.batcher
        self._clock = clock
        self._decode_rate = Rate()  # of kilopixels

    def forget_scores(self) -> None:
        """Scores that were given so far are not given again: files may have changed whose
        configuration, and so the model's key, has not.
        """
        if self.cache is not None:
            self.cache.clear()

    async def score(
        self, upload: Upload, model: LoadedModel, wanted: Sequence[Head] | None, deadline: float
    ) -> Scored:
        """Scores one image; ``wanted`` None: every head that the model has. The deadline is on
        ``clock``.

        Raises:
            ServiceError: there is no score; says why.
        """
        planned = self._plan(upload, model, wanted)
        place = upload.place
        if self.cache is None:
            let_in = place is not None and place.release()
            score = await self._alone(planned, model, deadline, let_in=let_in)
            return self._scored(planned, model, score)
        planned = await self._recognized(planned, model, self.cache)
        # Who waits for another one takes no part of the queue.
        let_in = place is not None and place.release()
        work = partial(self._alone, planned, model, deadline, let_in=let_in)
        urgency = Urgency(deadline, upload.sender.priority)
        score = await self.cache.score(planned, urgency, work)
        return self._scored(planned, model, score)

    async def _alone(
        self, planned: Planned, model: LoadedModel, deadline: float, *, let_in: bool = False
    ) -> Score:
        """Admits one image by itself, and has it computed."""
        sender = planned.upload.sender
        is_bulk = sender.priority is Priority.BULK
        enter = self._admission.promise if is_bulk else self._admission.admit
        room = enter(model.key, planned.load, deadline, sender, let_in=let_in)
        if is_bulk:
            await self._let_in(room, deadline)
        try:
            score = await self._admitted(planned, model, deadline, room)
        except DeadlineExceeded:  # whoever learns from the others alone learns too little
            self._admission.answered(room)
            raise
        self._admission.answered(room)
        return score

    async def score_many(
        self,
        uploads: Sequence[Upload],
        model: LoadedModel,
        wanted: Sequence[Head] | None,
        deadline: float,
        sender: Sender,
    ) -> list[Scored | ServiceError]:
        """Scores several images, admitted together and let in one after another; one that fails
        gives its error, the others their scores.

        The deadline is moved back by twice the time that the images are expected to take.
        """
        plans = [await self._try_plan(upload, model, wanted) for upload in uploads]
        good = [plan for plan in plans if isinstance(plan, Planned)]
        missing = good if self.cache is None else self.cache.missing(good)
        deadline += 2 * self._admission.alone(model.key, load_of(missing), sender)
        urgency = Urgency(deadline, sender.priority)
        if self.cache is not None:  # others, or another image of this call, may compute some
            cache = self.cache
            plans = [cache.claim(p, urgency) if isinstance(p, Planned) else p for p in plans]
            good = [plan for plan in plans if isinstance(plan, Planned) and plan.begun]
        ticket = None
        try:
            if good or self.cache is None:
                ticket = self._admission.promise(
                    model.key, load_of(good), deadline, sender, images=max(1, len(good))
                )
            work = [self._settled(plan, model, urgency, ticket) for plan in plans]
            return await asyncio.gather(*work)
        finally:  # of those that never began
            if ticket:
                ticket.release()
            if self.cache is not None:
                self.cache.give_up(good)

    async def _settled(
        self,
        plan: Planned | ServiceError,
        model: LoadedModel,
        urgency: Urgency,
        ticket: Ticket | None,
    ) -> "Scored | ServiceError":
        if isinstance(plan, ServiceError):
            return plan
        deadline = urgency.deadline
        try:
            if self.cache is None:
                assert ticket
                score = await self._part(plan, model, deadline, ticket)
            else:
                alone = partial(self._alone, plan, model, deadline)
                part = partial(self._part, plan, model, deadline, ticket) if ticket else alone
                score = await self.cache.score(plan, urgency, part if plan.begun else alone)
            return self._scored(plan, model, score)
        except ServiceError as error:
            return error
        except Exception:
            logger.exception("an image of a batch call failed unforeseen")
            return Internal()

    async def _part(
        self, plan: Planned, model: LoadedModel, deadline: float, ticket: Ticket
    ) -> Score:
        """Has one of the images of a ticket computed."""
        room = ticket.part(plan.load)
        await self._let_in(room, deadline)
        return await self._admitted(plan, model, deadline, room)

    async def _let_in(self, room: Ticket, deadline: float) -> None:
        """Waits for its turn among the images of batch calls."""
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                await self._lane.enter(room)
        except BaseException as error:
            room.release()
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded from None
            raise

    async def _try_plan(
        self, upload: Upload, model: LoadedModel, wanted: Sequence[Head] | None
    ) -> Planned | ServiceError:
        await asyncio.sleep(0)  # between the headers of a batch call others have their turn
        try:
            plan = self._plan(upload, model, wanted)
            if self.cache is not None:
                plan = await self._recognized(plan, model, self.cache)
        except ServiceError as error:
            return error
        return plan

    async def _recognized(self, planned: Planned, model: LoadedModel, cache: ScoreCache) -> Planned:
        """With the key of its score.

        Raises:
            Quarantined: it is not to be tried again, whatever is known of it.
        """
        recognized, upload = await cache.recognize(planned, model), planned.upload
        await self.quarantine.check(upload.content, upload.prompt, model.config.name)
        return recognized

    def _plan(self, upload: Upload, model: LoadedModel, wanted: Sequence[Head] | None) -> Planned:
        """What the image costs, from its header."""
        planner = CropPlanner(model.config, model.policy).for_file(upload.data)
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
        self._admission.require_fits(load)
        return Planned(upload, header, layout, load)

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
        self, planned: Planned, model: LoadedModel, deadline: float, room: Ticket
    ) -> Score:
        """Has it decoded into shared memory and the rows computed. Slot and room are free again
        when it is answered and nobody writes into the slot any more, whichever comes last.
        """
        upload, name = planned.upload, model.config.name
        slot = writing = None
        try:
            crashes = await self.quarantine.check(upload.content, upload.prompt, name)
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                slot = await self._slots.take(planned.layout.nbytes)
                writing = self._decoders.submit(self._picture(planned, slot, deadline))
                writing.when_ended(room.decoded)
                seconds = await self._decoded(writing)
                upload.stages.note("decode", self._clock() - seconds, seconds)
                score = await self._compute(planned, model, slot, deadline, crashes)
        except TimeoutError:
            raise DeadlineExceeded from None
        finally:
            self._give_back(slot, writing, room)
        return score

    def _scored(self, planned: Planned, model: LoadedModel, score: Score) -> Scored:
        """What is answered, wherever the score comes from."""
        self._observe(model.config.name, score)
        size, grid = (planned.header.width, planned.header.height), planned.layout.grid
        return Scored(score, model, grid.is_scaled(*size), grid.boxes(*size))

    def _give_back(self, slot: Slot | None, writing: Writing | None, room: Ticket) -> None:
        if slot is None or writing is None:
            self._free(slot, room)
            return
        writing.withdraw()
        writing.when_ended(lambda: self._free(slot, room))

    def _free(self, slot: Slot | None, room: Ticket) -> None:
        if slot is not None:
            self._slots.release(slot)
            self._metrics.arena_bytes.set(self._slots.in_use)
        self._lane.leave(room)
        room.release()

    def _picture(self, planned: Planned, slot: Slot, deadline: float) -> Picture:
        self._metrics.arena_bytes.set(self._slots.in_use)
        upload, owner = planned.upload, planned.upload.sender.owner
        return Picture(upload.data, planned.header, planned.layout, slot, owner, deadline)

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
        self, planned: Planned, model: LoadedModel, slot: Slot, deadline: float, crashes: int
    ) -> Score:
        """Has the rows computed of the crops in the slot."""
        layout, upload = planned.layout, planned.upload
        record = partial(self.quarantine.record, upload.content, upload.prompt, model.config.name)
        piece = Piece(slot, layout, upload.prompt, 0, layout.rows, completes=True)
        score: Score = await self._batcher.submit(
            model.key,
            layout.rows,
            deadline,
            piece,
            shape=layout.shape,
            row_cost=layout.row_cost,
            beside=planned.load.device_seconds,
            priority=upload.sender.priority,
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
