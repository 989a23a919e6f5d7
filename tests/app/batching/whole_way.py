"""The way of an image through admission, slots, batcher and workers, under a made-up clock, with
books kept beside it: after each step they must agree with what the parts say.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.batching.admission import Admission, State
from app.batching.batcher import Batcher, DeviceError, Outcome
from app.batching.budget import Limits
from app.batching.errors import (
    DeadlineExceeded,
    Draining,
    InferenceFailed,
    Internal,
    Quarantined,
    ServiceError,
)
from app.batching.fairness import Priority, Sender
from app.batching.jobs import Batch, Fault, Job
from app.batching.lane import Lane
from app.batching.ledger import Ceilings, Load, Ticket
from app.batching.rate import Rates
from app.batching.scheduler import Scheduler
from app.device.arena import Arena, Slot
from app.device.slots import Slots

ROWS = 16
BYTES = 4096
# So long after something happened the batcher may take to hand over what can run then.
HASTE = 0.01
# Good batches after which a worker may try again what its memory did not hold.
RECOVERY = 200


@dataclass(frozen=True, eq=False)
class Image:
    """Attributes:
    at: when it comes.
    leaves: seconds after which its client hangs up; None: never.
    poison: it ends every worker that computes it.
    broken: no batch with it gives results.
    absurd: the device itself fails under it, in a way that nobody foresaw.
    """

    at: float
    rows: int
    patience: float
    leaves: float | None = None
    is_bulk: bool = False
    poison: bool = False
    broken: bool = False
    absurd: bool = False


@dataclass(frozen=True)
class Death:
    """A worker is killed at a time; or it only hangs, and is found out later."""

    at: float
    worker: int
    hangs: bool


@dataclass
class Worker:
    """Implements ``Device``: seconds a row, deaths, restarts, memory for so many rows."""

    number: int
    per_row: float
    holds: int
    load_seconds: float
    on_change: Callable[[int, bool], None]
    kills: "Counter[Image]"
    up: bool = True
    silent: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    begun: "list[tuple[Batch, asyncio.Future[Outcome]]]" = field(default_factory=list)

    async def run(self, batch: Batch) -> Outcome:
        if any(piece.job.payload.absurd for piece in batch.slices):
            raise OSError("nobody knows")
        if not self.up:
            raise DeviceError(Fault.NOT_RUN)
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        entry = (batch, ended)
        self.begun.append(entry)
        work = asyncio.ensure_future(self._compute(batch))
        try:
            await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
            return await (ended if ended.done() else work)
        finally:
            work.cancel()
            self.begun.remove(entry)

    async def _compute(self, batch: Batch) -> Outcome:
        async with self.turn:
            images: list[Image] = [piece.job.payload for piece in batch.slices]
            await asyncio.sleep(self.per_row * batch.cost)
            if any(image.poison for image in images):
                self.kills.update(image for image in images if image.poison)
                asyncio.get_running_loop().call_soon(self.die)
                await asyncio.Event().wait()
            if batch.rows > self.holds:
                raise DeviceError(Fault.OUT_OF_MEMORY)
            if any(image.broken for image in images):
                raise DeviceError(Fault.INFERENCE)
            return Outcome([image.at for image in images], self.per_row * batch.cost)

    def hang(self) -> None:
        self.silent = True
        self.on_change(self.number, False)

    def die(self) -> None:
        if not self.up:
            return
        self.up = False
        self.on_change(self.number, False)
        for place, (_, ended) in enumerate(self.begun):
            if not ended.done():
                ended.set_exception(DeviceError(Fault.NOT_RUN if place else Fault.WORKER_DIED))
        asyncio.get_running_loop().call_later(self.load_seconds, self.come_up)

    def come_up(self) -> None:
        self.up, self.silent = True, False
        self.on_change(self.number, True)


class Silent:
    def batch_sent(self, batch: Batch) -> None: ...
    def batch_done(self, batch: Batch, outcome: Outcome) -> None: ...
    def batch_failed(self, batch: Batch, fault: Fault) -> None: ...


class Watched(Scheduler):
    """Keeps books of each job, and compares them with what there is after each step."""

    def __init__(self, limits: Limits, clock: Callable[[], float], *rates: Rates) -> None:
        super().__init__(limits, *rates)
        self.jobs: list[Job] = []
        self.answers: dict[Job, list[Any]] = {}
        self.left: set[Job] = set()  # before they were answered
        self._clock = clock
        self._computed: Counter[Job] = Counter()  # rows
        self._beside_absurd: set[Job] = set()
        self._too_much: dict[int, int] = {}  # what the memory of a worker did not hold
        self._good: Counter[int] = Counter()  # batches since then
        self.wrong: list[str] = []  # what the batcher may take for a fault of the batch

    def add(self, job: Job, now: float) -> None:
        answer = job.answer

        def watched(result: Any) -> None:
            self.answers[job].append(result)
            self._check_answer(job, result)
            answer(result)

        job.answer = watched
        self.jobs.append(job)
        self.answers[job] = []
        super().add(job, now)
        self._check()

    def cancel(self, job: Job) -> None:
        if not job.closed:
            self.left.add(job)
        super().cancel(job)
        self._check()

    def next_batch(self, now: float) -> Batch | None:
        is_retry = bool(self._retries)
        batch = super().next_batch(now)
        if batch is None:
            self._must(not self.idles(), "a worker is idle while rows wait")
        else:
            self._check_batch(batch, now, is_retry=is_retry)
        self._check()
        return batch

    def finished(self, batch: Batch, results: list[Any], seconds: float) -> None:
        self._good[batch.lane] += 1
        for piece in batch.slices:
            self._computed[piece.job] += piece.rows
        super().finished(batch, results, seconds)
        self._check()

    def failed(self, batch: Batch, fault: Fault) -> None:
        if fault is Fault.OUT_OF_MEMORY:
            self._too_much[batch.lane] = batch.cost
            self._good[batch.lane] = 0
        super().failed(batch, fault)
        self._check()

    def lost(self, batch: Batch, error: ServiceError) -> None:
        self._beside_absurd.update(piece.job for piece in batch.slices)
        super().lost(batch, error)
        self._check()

    def fail_all(self, error: ServiceError) -> None:
        super().fail_all(error)
        self._must(all(job.closed for job in self.jobs), "the drain left a job open")

    def idles(self) -> bool:
        """Whether a worker has nothing to do that could do something now."""
        usable = self.lanes.usable
        suspect = any(batch.suspect for batch in self.lanes.batches)
        waits = self._queue.ready or self._retries
        waits = waits or (self._queue.parked() and len(usable) > 1 and not suspect)
        return bool(waits) and any(not lane.running for lane in usable)

    def _must(self, holds: object, otherwise: str) -> None:
        if not holds:
            self.wrong.append(otherwise)
            raise AssertionError(otherwise)

    def _check(self) -> None:
        """Each open job is at one place, and each closed one waits nowhere."""
        waiting = Counter(self._queue.by_urgency())
        at_work = Counter({piece.job for piece in self._handed_over()})
        for job in self.jobs:
            self._must(
                len(self.answers[job]) == (job.closed and job not in self.left),
                "a job was answered twice, or not at all, or after its client left",
            )
            if job.closed:
                self._must(waiting[job] == 0, "a closed job waits")
            else:
                self._must(waiting[job] + at_work[job] == 1, "a job is lost, or there twice")
        for lane in self.lanes:
            self._must(len(lane.running) <= 2, "three batches are at a worker")
        if len(self.lanes) > 1:
            self._must(sum(batch.suspect for batch in self.lanes.batches) <= 1, "two suspects run")

    def _check_batch(self, batch: Batch, now: float, *, is_retry: bool) -> None:
        lane, usable = self.lanes[batch.lane], self.lanes.usable
        self._must(lane in usable, "a batch went to a worker that is down")
        self._must(
            len(lane.running) == 1 or all(other.running for other in usable),
            "a busy worker got what an idle one could do",
        )
        self._must(
            len({piece.job.kind for piece in batch.slices}) == 1, "unlike jobs share a batch"
        )
        self._must(batch.cost <= ROWS or len(batch.slices) == 1, "a batch is too large")
        for piece in batch.slices:
            self._must(piece.job not in self.left, "computed though its client left")
            self._must(not self.answers[piece.job], "computed though it was answered")
            self._must(
                piece.start == self._computed[piece.job], "rows are left out, or computed twice"
            )
            self._must(piece.rows > 0, "a slice has no rows")
            self._must(piece.job.deadline > now - HASTE, "computed though it is late")
        if not is_retry and self._good[lane.number] < RECOVERY:
            self._must(
                batch.rows == 1 or batch.cost < self._too_much.get(lane.number, batch.cost + 1),
                "memory did not hold so much",
            )
        if len(self.lanes) > 1 and len(usable) == 1 and batch.suspect:
            job = batch.slices[0].job
            self._must(
                now >= (job.arrived + job.deadline) / 2, "a suspect did not wait for company"
            )

    def _check_answer(self, job: Job, result: Any) -> None:
        """An answer is the image's own, and nobody pays for what another one did."""
        image: Image = job.payload
        match result:
            case DeadlineExceeded():
                self._must(
                    self._clock() >= job.deadline or (self.draining and job.suspect),
                    "late before its time",
                )
            case Draining():
                self._must(self.draining, "it does not drain")
            case Quarantined():
                self._must(job.crashes == 2, "quarantined too soon")
            case Internal():
                self._must(job in self._beside_absurd, "an internal error of another")
            case InferenceFailed():
                self._must(image.broken, "a failure of another")
            case _:
                self._must(result == image.at, "the result of another")
                self._must(
                    not (image.poison or image.broken or image.absurd), "a result of what has none"
                )
                self._must(self._computed[job] == job.rows, "rows are missing")


class Way:
    """Of an image through the parts, as ``app.scoring`` has it; ``outcomes``: what clients got."""

    def __init__(self, workers: list[tuple[float, int]], load_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.clock = loop.time
        self.slots = Slots(Arena(8 * BYTES))
        self.kills: Counter[Image] = Counter()
        self.workers = [
            Worker(number, per_row, holds, load_seconds, self._changed, self.kills)
            for number, (per_row, holds) in enumerate(workers)
        ]
        limits = Limits(batch_seconds=0.25, batch_rows=ROWS)
        self.scheduler = Watched(limits, self.clock, *(Rates() for _ in workers))
        self.admission = Admission(Ceilings(10**6, 10**9), self.scheduler, self.clock)
        self.admission.state = State.READY
        self.lane = Lane(self.admission.has_room, self._batches, 10**9)
        self.admission.on_room = self.lane.look
        self.batcher = Batcher(self.scheduler, self.workers, Silent(), self.clock)
        self.outcomes: dict[Image, Any] = {}
        self._inside: dict[Image, int] = {}
        self._held: dict[Image, Slot] = {}

    def _batches(self, ticket: Ticket) -> float:
        return ticket.load.cost / self.scheduler.at_once(ticket.model)

    def _changed(self, number: int, up: bool) -> None:
        self.scheduler.lanes[number].well = up
        self.batcher.wake()

    async def meet(self, death: Death) -> None:
        await asyncio.sleep(death.at)
        worker = self.workers[death.worker % len(self.workers)]
        if death.hangs and worker.up:
            worker.hang()  # nobody is sure yet
            await asyncio.sleep(0.5)
        worker.die()

    async def drain(self, at: float | None) -> None:
        if at is not None:
            await asyncio.sleep(at)
            self.admission.state = State.DRAINING
            await self.batcher.drain(self.admission.empty(), 1.0)

    async def visit(self, image: Image) -> None:
        """A client comes, and may hang up; it gets a result, or hears why not."""
        await asyncio.sleep(image.at)
        client = asyncio.ensure_future(self._score(image))
        if image.leaves is not None:
            asyncio.get_running_loop().call_later(image.leaves, client.cancel)
        await asyncio.wait([client])
        if not client.cancelled():
            error = client.exception()
            assert error is None or isinstance(error, ServiceError | TimeoutError)
            self.outcomes[image] = error or client.result()

    async def watch(self) -> None:
        """No worker is idle for long while rows wait, and the books agree at all times."""
        idle = 0
        while True:
            await asyncio.sleep(HASTE)
            assert self.admission.cost == sum(self._inside.values())
            assert self.slots.in_use == sum(slot.size for slot in self._held.values())
            lanes = self.scheduler.lanes
            knows = all(lanes[worker.number].up == worker.up for worker in self.workers)
            idle = idle + 1 if self.scheduler.idles() or not knows else 0
            assert idle < 2, "nobody woke the batcher"

    def check_rest(self) -> None:
        """Nothing is left of those that came."""
        assert not self.scheduler.wrong
        assert self.scheduler.idle
        assert all(job.closed for job in self.scheduler.jobs)
        assert (self.slots.in_use, self.admission.cost, self.admission.bytes) == (0, 0, 0)
        assert self.admission.expected_seconds() == 0
        assert self.lane.waiting == 0
        assert not self.lane._inside
        assert all(kills <= 2 for kills in self.kills.values())
        for job in self.scheduler.jobs:
            image, answers = job.payload, self.scheduler.answers[job]
            late = DeadlineExceeded | TimeoutError
            if answers and image in self.outcomes and not isinstance(self.outcomes[image], late):
                assert self.outcomes[image] is answers[0]
            if job in self.scheduler.left and image.leaves is None:
                assert isinstance(self.outcomes[image], late)

    async def _score(self, image: Image) -> Any:
        priority = Priority.BULK if image.is_bulk else Priority.INTERACTIVE
        deadline = self.clock() + image.patience
        load = Load(image.rows, BYTES, decode_seconds=0.001, device_seconds=0.001)
        enter = self.admission.promise if image.is_bulk else self.admission.admit
        room = enter("m", load, deadline, Sender(priority=priority))
        self._inside[image] = image.rows
        slot = None
        try:
            async with asyncio.timeout(image.patience):
                if image.is_bulk:
                    await self.lane.enter(room)
                slot = self._held[image] = await self.slots.take(BYTES - 64)
                room.decoded()
                return await self.batcher.submit(
                    "m", image.rows, deadline, image, priority=priority
                )
        finally:
            if slot is not None:
                self.slots.release(slot)
                del self._held[image]
            self.lane.leave(room)
            del self._inside[image]
            room.release()
