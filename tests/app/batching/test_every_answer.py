"""Whatever comes, goes, fails and starts again: one answer for each admitted job, and every slot of
the shared memory comes back.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.batching.admission import Admission, State
from app.batching.batcher import Batcher, DeviceError, Outcome
from app.batching.budget import Limits
from app.batching.errors import ServiceError
from app.batching.fairness import Priority, Sender
from app.batching.jobs import Batch, Fault, Job, JobState
from app.batching.ledger import Ceilings, Load
from app.batching.rate import Rates
from app.batching.scheduler import Scheduler
from app.device.arena import Arena
from app.device.slots import Slots
from benchmarks.overload.clock import run

ROWS = 16
BYTES = 4096


@dataclass(frozen=True, eq=False)
class Image:
    """Attributes:
    at: when it comes.
    leaves: seconds after which its client hangs up; None: never.
    poison: it ends every worker that computes it.
    broken: no batch with it gives results.
    """

    at: float
    rows: int
    patience: float
    leaves: float | None
    is_bulk: bool
    poison: bool
    broken: bool


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
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    begun: "list[tuple[Batch, asyncio.Future[Outcome]]]" = field(default_factory=list)

    async def run(self, batch: Batch) -> Outcome:
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
        self.up = True
        self.on_change(self.number, True)


class Silent:
    def batch_sent(self, batch: Batch) -> None: ...
    def batch_done(self, batch: Batch, outcome: Outcome) -> None: ...
    def batch_failed(self, batch: Batch, fault: Fault) -> None: ...


class Counting(Scheduler):
    """Counts how often each job is answered, and looks at who runs beside whom."""

    def __init__(self, limits: Limits, *rates: Rates) -> None:
        super().__init__(limits, *rates)
        self.jobs: list[Job] = []
        self.answers: Counter[Job] = Counter()

    def add(self, job: Job, now: float) -> None:
        answer = job.answer

        def counted(result: Any) -> None:
            self.answers[job] += 1
            answer(result)

        job.answer = counted
        self.jobs.append(job)
        super().add(job, now)

    def next_batch(self, now: float) -> Batch | None:
        batch = super().next_batch(now)
        if len(self.lanes) > 1:
            assert sum(batch.suspect for batch in self.lanes.batches) <= 1
            if batch and batch.suspect and len(self.lanes.usable) == 1:
                job = batch.slices[0].job
                assert now >= (job.arrived + job.deadline) / 2
        assert all(len(lane.running) <= 2 for lane in self.lanes)
        return batch


class Way:
    """Of an image through admission, slots, batcher and workers, as ``app.scoring`` has it."""

    def __init__(self, workers: list[tuple[float, int]], load_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.clock = loop.time
        self.arena = Arena(8 * BYTES)
        self.slots = Slots(self.arena)
        self.kills: Counter[Image] = Counter()
        self.workers = [
            Worker(number, per_row, holds, load_seconds, self._changed, self.kills)
            for number, (per_row, holds) in enumerate(workers)
        ]
        limits = Limits(batch_seconds=0.25, batch_rows=ROWS)
        self.scheduler = Counting(limits, *(Rates() for _ in workers))
        self.admission = Admission(Ceilings(10**6, 10**9), self.scheduler, self.clock)
        self.admission.state = State.READY
        self.batcher = Batcher(self.scheduler, self.workers, Silent(), self.clock)

    def _changed(self, number: int, up: bool) -> None:
        self.scheduler.lanes[number].well = up
        self.batcher.wake()

    async def hang(self, death: Death) -> None:
        await asyncio.sleep(death.at)
        worker = self.workers[death.worker % len(self.workers)]
        if death.hangs and worker.up:
            self._changed(worker.number, False)  # silent, and nobody is sure yet
            await asyncio.sleep(0.5)
        worker.die()

    async def visit(self, image: Image) -> None:
        """A client comes, and may hang up; it gets a result, or hears why not."""
        await asyncio.sleep(image.at)
        client = asyncio.ensure_future(self.score(image))
        if image.leaves is not None:
            asyncio.get_running_loop().call_later(image.leaves, client.cancel)
        await asyncio.wait([client])
        if not client.cancelled() and (error := client.exception()):
            assert isinstance(error, ServiceError | TimeoutError)

    async def score(self, image: Image) -> Any:
        priority = Priority.BULK if image.is_bulk else Priority.INTERACTIVE
        deadline = self.clock() + image.patience
        load = Load(image.rows, BYTES)
        room = self.admission.admit("m", load, deadline, Sender(priority=priority))
        slot = None
        try:
            async with asyncio.timeout(image.patience):
                slot = await self.slots.take(BYTES - 64)
                return await self.batcher.submit(
                    "m", image.rows, deadline, image, priority=priority
                )
        finally:
            if slot is not None:
                self.slots.release(slot)
            room.release()


def seconds(most: float) -> "st.SearchStrategy[float]":
    return st.floats(0, most, allow_nan=False)


IMAGES = st.builds(
    Image,
    at=seconds(3.0),
    rows=st.integers(1, 3 * ROWS),
    patience=st.floats(0.05, 8.0),
    leaves=st.none() | seconds(2.0),
    is_bulk=st.booleans(),
    poison=st.integers(0, 19).map(lambda chance: chance == 0),
    broken=st.integers(0, 9).map(lambda chance: chance == 0),
)
DEATHS = st.builds(Death, at=seconds(4.0), worker=st.integers(0, 3), hangs=st.booleans())
WORKERS = st.tuples(st.sampled_from([0.001, 0.004, 0.02]), st.integers(4, ROWS))


@given(
    images=st.lists(IMAGES, min_size=1, max_size=40),
    deaths=st.lists(DEATHS, max_size=6),
    workers=st.lists(WORKERS, min_size=1, max_size=4),
    load_seconds=st.floats(0.1, 3.0),
)
@settings(max_examples=150, deadline=None)
def test_every_admitted_job_gets_one_answer_and_every_slot_comes_back(
    images: list[Image], deaths: list[Death], workers: list[tuple[float, int]], load_seconds: float
) -> None:
    async def play() -> None:
        way = Way(workers, load_seconds)
        task = asyncio.create_task(way.batcher.run())
        visits = [way.visit(image) for image in images]
        await asyncio.gather(*visits, *(way.hang(death) for death in deaths))
        await asyncio.sleep(20.0)  # what nobody waits for any more runs to its end
        assert not task.done()
        cancelled = [j for j in way.scheduler.jobs if j.state is JobState.CANCELLED]
        for job in way.scheduler.jobs:
            assert way.scheduler.answers[job] == (job not in cancelled)
        assert way.scheduler.idle
        assert (way.slots.in_use, way.admission.cost, way.admission.bytes) == (0, 0, 0)
        assert all(kills <= 2 for kills in way.kills.values())
        task.cancel()
        way.slots.close()

    run(play())
