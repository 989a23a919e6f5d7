"""What runs next on the device: a queue ordered by deadline, packed into batches by what their rows
cost. No clock, no I/O.

A batch holds rows of one model and of one shape, since one call of the network computes it. Cost is
counted in rows of the model's own size: a larger row counts as several.

It is a state machine and reads no clock: ``app.batching.batcher`` drives it, and tests with a
made-up time.
"""

import bisect
import itertools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from app.batching.errors import (
    DeadlineExceeded,
    InferenceFailed,
    OutOfMemory,
    ServiceError,
    WorkerDown,
)
from app.batching.rate import Rates

Trigger = Literal["idle", "full", "drain"]

# A small request may overtake larger ones whose deadline is at most this much earlier, in seconds.
SMALL_ADVANTAGE = 1.0
# Batches without a failure after which a budget that memory had halved is doubled again.
_RECOVERY = 200


class Fault(Enum):
    """Why a batch gave no results."""

    INFERENCE = "inference"
    OUT_OF_MEMORY = "oom"
    WORKER_DIED = "worker_died"


class JobState(Enum):
    """Where a job is; only the scheduler moves it on, and never out of the last two."""

    QUEUED = "queued"  # between the slices of a split job, too
    RUNNING = "running"  # a slice is at the device, or goes there again after a failure
    ANSWERED = "answered"
    CANCELLED = "cancelled"


@dataclass(eq=False)
class Job:
    """One admitted image. ``payload`` is the device's business; ``answer`` is called once at most.

    ``shape`` is the size of each of its rows, and ``row_cost`` what one costs, in rows of the
    model's own size. ``partial`` collects the rows of a job that is split over batches, until its
    last row lands.
    """

    model: str
    rows: int
    deadline: float
    payload: Any
    answer: Callable[[Any], None]
    shape: tuple[int, ...] = ()
    row_cost: int = 1
    label: str = ""
    arrived: float = 0.0
    done: int = 0
    crashes: int = 0
    state: JobState = JobState.QUEUED
    partial: list[Any] = field(default_factory=list)

    @property
    def closed(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.state in {JobState.ANSWERED, JobState.CANCELLED}

    @property
    def left(self) -> int:
        return self.rows - self.done

    @property
    def cost(self) -> int:
        """What the rows still to compute cost."""
        return self.left * self.row_cost

    @property
    def kind(self) -> tuple[str, tuple[int, ...]]:
        """Model and shape: only jobs of one kind share a batch."""
        return self.model, self.shape


@dataclass(frozen=True)
class Slice:
    """Rows ``start`` to ``stop`` of a job."""

    job: Job
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def cost(self) -> int:
        return self.rows * self.job.row_cost

    @property
    def completes(self) -> bool:
        return self.stop == self.job.rows


@dataclass(frozen=True, eq=False)
class Batch:
    """Slices that share one call of the network."""

    slices: tuple[Slice, ...]
    trigger: Trigger
    sent: float
    expected: float = 0.0  # seconds at the device

    @property
    def model(self) -> str:
        return self.slices[0].job.model

    @property
    def rows(self) -> int:
        return sum(s.rows for s in self.slices)

    @property
    def cost(self) -> int:
        return sum(s.cost for s in self.slices)


@dataclass(frozen=True)
class Limits:
    """``batch_seconds`` of work per batch at the measured rate, never over a cost of
    ``batch_rows``; ``lead`` seconds before a running batch is expected to end, the next one is
    handed over.
    """

    batch_seconds: float = 0.25
    batch_rows: int = 128
    lead: float = 0.01


@dataclass
class _Cap:
    """The largest batch of one model that the device's memory is known to hold, by cost."""

    most: int
    now: int
    good_batches: int = 0

    def halve(self, failed: int) -> None:
        """A batch of that cost did not fit."""
        self.now = max(1, min(self.now, failed // 2))

    def after_good_batch(self) -> None:
        """Doubles a halved cap after many batches without a failure."""
        self.good_batches += 1
        if self.good_batches >= _RECOVERY and self.now < self.most:
            self.now = min(self.most, self.now * 2)
            self.good_batches = 0


class Scheduler:
    """Owns the queue. At most one batch runs and one waits at the device."""

    def __init__(self, limits: Limits, rates: Rates) -> None:
        self.limits = limits
        self.rates = rates
        self.draining = False
        self._queue: list[tuple[float, int, Job]] = []
        self._order = itertools.count()
        self._retries: deque[tuple[Slice, ...]] = deque()
        self._running: list[Batch] = []
        self._busy_until = 0.0  # when the batches at the device are expected to be done
        self._caps: dict[str, _Cap] = {}

    # What is there

    @property
    def queued(self) -> list[Job]:
        """Jobs not yet wholly handed over, most urgent first."""
        return [job for _, _, job in self._queue]

    @property
    def idle(self) -> bool:
        """Nothing queued, nothing running, nothing to retry."""
        return not (self._queue or self._running or self._retries)

    def budget(self, model: str) -> int:
        """What a batch of that model may cost now; a single row may cost more."""
        rate, most = self.rates.of(model), self._cap(model).now
        return min(most, rate.rows_within(self.limits.batch_seconds)) if rate.known else most

    def backlog_seconds(self, costs: Mapping[str, int]) -> float:
        """Expected seconds to work off so much of each model."""
        return sum(
            self.rates.of(model).backlog_seconds(cost, self.budget(model))
            for model, cost in costs.items()
        )

    # What comes in and goes out

    def add(self, job: Job, now: float) -> None:
        """Queues a job, by its deadline; a small one counts as up to a second more urgent."""
        job.arrived = now
        penalty = min(SMALL_ADVANTAGE, self.rates.of(job.model).seconds(job.cost))
        bisect.insort(self._queue, (job.deadline + penalty, next(self._order), job))

    def cancel(self, job: Job) -> None:
        """The client is gone: forgets what is queued; what runs is not waited for."""
        if not job.closed:
            job.state = JobState.CANCELLED
            self._forget(job)

    def expire(self, now: float) -> None:
        """Answers every queued job whose deadline has passed, before it costs anything."""
        for job in [job for job in self._eligible() if job.deadline <= now]:
            self._finish(job, DeadlineExceeded())

    def next_batch(self, now: float) -> Batch | None:
        """The batch to hand to the device now, if there is one and the device is free (or soon will
        be).
        """
        self.expire(now)
        trigger = self._trigger(now)
        if trigger is None:
            return None
        slices = self._next_slices()
        if not slices:
            return None
        for piece in slices:
            piece.job.state = JobState.RUNNING
        model, cost = slices[0].job.model, sum(s.cost for s in slices)
        batch = Batch(slices, trigger, now, self.rates.of(model).seconds(cost))
        # A batch that was handed over early starts when the one before it ends.
        starts = max(now, self._busy_until) if self._running else now
        self._busy_until = starts + batch.expected
        self._running.append(batch)
        return batch

    def wake_at(self, now: float) -> float | None:
        """When to look again though nothing happens: a deadline, or a running batch nearly done."""
        times = [job.deadline for job in self._eligible()]
        if times and len(self._running) == 1:
            times.append(self._hand_over_at())
        return max(now, min(times)) if times else None

    # What the device says

    def finished(self, batch: Batch, results: list[Any], seconds: float) -> None:
        """Takes in one result per slice: the answer (or a ServiceError) of a slice that completes
        its job, or rows.

        Raises:
            ValueError: another number of results than slices; nobody was answered.
        """
        if len(results) != len(batch.slices):
            raise ValueError(f"{len(results)} results for {len(batch.slices)} slices")
        self._leave(batch)
        self.rates.of(batch.model).observe(batch.cost, seconds)
        self._cap(batch.model).after_good_batch()
        for piece, result in zip(batch.slices, results, strict=True):
            job = piece.job
            job.done = piece.stop
            if isinstance(result, ServiceError) or piece.completes:
                self._finish(job, result)
            elif not job.closed:
                job.state = JobState.QUEUED
                job.partial.append(result)

    def failed(self, batch: Batch, fault: Fault) -> None:
        """Decides what becomes of a batch that gave no results; nobody is forgotten."""
        self._leave(batch)
        self._cap(batch.model).good_batches = 0
        if fault is Fault.WORKER_DIED:
            self._after_crash(batch)
        elif fault is Fault.OUT_OF_MEMORY:
            self._after_oom(batch)
        else:
            self._after_error(batch)

    def lost(self, batch: Batch, error: ServiceError) -> None:
        """Gives up a batch that met with something unforeseen: trying again may do harm."""
        self._leave(batch)
        self._cap(batch.model).good_batches = 0
        for piece in batch.slices:
            self._finish(piece.job, error)

    def fail_all(self, error: ServiceError) -> None:
        """Answers everything that waits with one error (the drain's time is over)."""
        at_device = (batch.slices for batch in self._running)
        sliced = [piece.job for pieces in (*self._retries, *at_device) for piece in pieces]
        for job in (*self.queued, *sliced):
            self._finish(job, error)
        self._retries.clear()

    # How

    def _trigger(self, now: float) -> Trigger | None:
        if len(self._running) > 1:
            return None
        if not self._running:
            return "drain" if self.draining else "idle"
        if self._fills_a_batch():
            return "full"
        return "idle" if now >= self._hand_over_at() else None

    def _fills_a_batch(self) -> bool:
        """Whether what can run together with the most urgent job is as much as a batch may cost."""
        waiting = self._eligible()
        together = [job.cost for job in waiting if job.kind == waiting[0].kind]
        return bool(together) and sum(together) >= self.budget(waiting[0].model)

    def _hand_over_at(self) -> float:
        return self._busy_until - self.limits.lead

    def _eligible(self) -> list[Job]:
        return [job for job in self.queued if job.state is JobState.QUEUED]

    def _next_slices(self) -> tuple[Slice, ...]:
        while self._retries:
            pieces = tuple(p for p in self._retries.popleft() if not p.job.closed)
            if pieces:
                return pieces
        return self._pack()

    def _pack(self) -> tuple[Slice, ...]:
        """Whole jobs of one kind by urgency, as many as fit; one larger than the budget is split,
        if it comes first.
        """
        jobs = self._eligible()
        if not jobs:
            return ()
        first, *others = jobs
        budget = self.budget(first.model)
        # At least one row, however much it costs: waiting makes it no smaller.
        take = min(first.left, max(1, budget // first.row_cost))
        pieces = [Slice(first, first.done, first.done + take)]
        room = budget - pieces[0].cost
        for job in others:
            if job.kind == first.kind and job.cost <= room:
                pieces.append(Slice(job, job.done, job.rows))
                room -= job.cost
        for piece in pieces:
            if piece.completes:
                self._forget(piece.job)
        return tuple(pieces)

    def _after_crash(self, batch: Batch) -> None:
        for piece in batch.slices:
            piece.job.crashes += 1
            if piece.job.crashes > 1:
                self._finish(piece.job, WorkerDown())
            else:
                self._requeue(piece.job)

    def _after_oom(self, batch: Batch) -> None:
        if batch.rows == 1:
            self._finish(batch.slices[0].job, OutOfMemory())
            return
        self._cap(batch.model).halve(batch.cost)
        for piece in batch.slices:
            self._requeue(piece.job)

    def _after_error(self, batch: Batch) -> None:
        if len(batch.slices) == 1:
            self._finish(batch.slices[0].job, InferenceFailed())
            return
        # The jobs of both halves stay RUNNING: nothing else may pick them up meanwhile.
        middle = len(batch.slices) // 2
        self._retries += [batch.slices[:middle], batch.slices[middle:]]

    def _requeue(self, job: Job) -> None:
        if not job.closed:
            job.state = JobState.QUEUED
            if job not in self.queued:
                self.add(job, job.arrived)

    def _cap(self, model: str) -> _Cap:
        most = self.limits.batch_rows
        return self._caps.setdefault(model, _Cap(most, most))

    def _leave(self, batch: Batch) -> None:
        self._running = [other for other in self._running if other is not batch]

    def _forget(self, job: Job) -> None:
        self._queue = [entry for entry in self._queue if entry[2] is not job]

    def _finish(self, job: Job, result: Any) -> None:
        """Answers a job that is still open; what else runs of it is not waited for."""
        if not job.closed:
            job.state = JobState.ANSWERED
            self._forget(job)
            job.answer(result)
