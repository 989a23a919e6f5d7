"""What runs next on the device: a queue ordered by deadline, packed into batches by rows. No clock,
no I/O.

The scheduler is a state machine that is told the time. ``app.batcher`` drives it; tests drive it
with a fake clock.
"""

import bisect
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from app.errors import DeadlineExceeded, InferenceFailed, OutOfMemory, ServiceError, WorkerDown
from app.rate import Rate

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


@dataclass(eq=False)
class Job:
    """One admitted image. ``payload`` is the device's business; ``answer`` is called exactly once.

    ``partial`` collects the rows of a job that is split over batches, until its last row lands.
    """

    model: str
    rows: int
    deadline: float
    payload: Any
    answer: Callable[[Any], None]
    arrived: float = 0.0
    done: int = 0
    crashes: int = 0
    running: bool = False
    cancelled: bool = False
    partial: list[Any] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Rows still to compute."""
        return self.rows - self.done


@dataclass(frozen=True)
class Slice:
    """Rows ``start`` to ``stop`` of a job."""

    job: Job
    start: int
    stop: int

    @property
    def completes(self) -> bool:
        """Whether the job is whole after this slice."""
        return self.stop == self.job.rows


@dataclass(frozen=True, eq=False)
class Batch:
    """Slices that share one call of the network."""

    slices: tuple[Slice, ...]
    trigger: Trigger
    sent: float

    @property
    def rows(self) -> int:
        """Rows of all slices."""
        return sum(s.stop - s.start for s in self.slices)


@dataclass(frozen=True)
class Limits:
    """``batch_seconds`` of work per batch at the measured rate, never over ``batch_rows``; ``lead``
    seconds before a running batch is expected to end, the next one is handed over.
    """

    batch_seconds: float = 0.25
    batch_rows: int = 128
    lead: float = 0.01


class Scheduler:
    """Owns the queue. At most one batch runs and one waits at the device."""

    def __init__(self, limits: Limits, rate: Rate) -> None:
        self.limits, self.rate = limits, rate
        self.draining = False
        self._queue: list[tuple[float, int, Job]] = []
        self._order = itertools.count()
        self._retries: deque[tuple[Slice, ...]] = deque()
        self._running: list[Batch] = []
        self._busy_until = 0.0  # when the batches at the device are expected to be done
        self._cap = limits.batch_rows
        self._since_failure = 0

    # What is there

    @property
    def queued(self) -> list[Job]:
        """Jobs not yet wholly handed over, most urgent first."""
        return [job for _, _, job in self._queue]

    @property
    def idle(self) -> bool:
        """Nothing queued, nothing running, nothing to retry."""
        return not (self._queue or self._running or self._retries)

    def budget(self) -> int:
        """Rows that a batch may have now."""
        if not self.rate.known:
            return min(self._cap, self.limits.batch_rows)
        return min(
            self._cap, self.limits.batch_rows, self.rate.rows_within(self.limits.batch_seconds)
        )

    # What comes in and goes out

    def add(self, job: Job, now: float) -> None:
        """Queues a job, by its deadline; a small one counts as up to a second more urgent."""
        job.arrived = now
        penalty = min(SMALL_ADVANTAGE, self.rate.seconds(job.rows))
        bisect.insort(self._queue, (job.deadline + penalty, next(self._order), job))

    def cancel(self, job: Job) -> None:
        """The client is gone: forgets what is queued; what runs is not waited for."""
        job.cancelled = True
        self._forget(job)

    def expire(self, now: float) -> None:
        """Answers every queued job whose deadline has passed, before it costs anything."""
        for job in [job for job in self.queued if job.deadline <= now and not job.running]:
            self._answer(job, DeadlineExceeded())

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
            piece.job.running = True
        batch = Batch(slices, trigger, now)
        # A batch that was handed over early starts when the one before it ends.
        starts = max(now, self._busy_until) if self._running else now
        self._busy_until = starts + self.rate.seconds(batch.rows)
        self._running.append(batch)
        return batch

    def wake_at(self, now: float) -> float | None:
        """When to look again although nothing happens: a deadline, or the running batch's last
        moments.
        """
        times = [job.deadline for job in self.queued if not job.running]
        if len(self._running) == 1 and self._eligible():
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
        self.rate.observe(batch.rows, seconds)
        self._recover()
        for piece, result in zip(batch.slices, results, strict=True):
            job = piece.job
            job.running = False
            job.done = piece.stop
            if job.cancelled:
                continue
            if isinstance(result, ServiceError) or piece.completes:
                self._answer(job, result)
            else:
                job.partial.append(result)

    def failed(self, batch: Batch, fault: Fault) -> None:
        """Decides what becomes of a batch that gave no results; nobody is forgotten."""
        self._leave(batch)
        self._since_failure = 0
        for piece in batch.slices:
            piece.job.running = False
        if fault is Fault.WORKER_DIED:
            self._after_crash(batch)
        elif fault is Fault.OUT_OF_MEMORY:
            self._after_oom(batch)
        else:
            self._after_error(batch)

    def fail_all(self, error: ServiceError) -> None:
        """Answers everything that waits with one error (the drain's time is over)."""
        for job in [*self.queued, *(p.job for pieces in self._retries for p in pieces)]:
            self._answer(job, error)
        for piece in [p for batch in self._running for p in batch.slices]:
            self._answer(piece.job, error)
        self._retries.clear()

    # How

    def _trigger(self, now: float) -> Trigger | None:
        if len(self._running) > 1:
            return None
        if not self._running:
            return "drain" if self.draining else "idle"
        if sum(job.left for job in self._eligible()) >= self.budget():
            return "full"
        return "idle" if now >= self._hand_over_at() else None

    def _hand_over_at(self) -> float:
        return self._busy_until - self.limits.lead

    def _eligible(self) -> list[Job]:
        return [job for job in self.queued if not job.running]

    def _next_slices(self) -> tuple[Slice, ...]:
        while self._retries:
            pieces = tuple(p for p in self._retries.popleft() if not p.job.cancelled)
            if pieces:
                return pieces
        return self._pack()

    def _pack(self) -> tuple[Slice, ...]:
        """Whole jobs of one model by urgency, as many as fit; one larger than the budget is split,
        if it comes first.
        """
        budget = room = self.budget()
        pieces: list[Slice] = []
        for job in self._eligible():
            if pieces and job.model != pieces[0].job.model:
                continue
            take = (
                job.left
                if job.left <= room
                else (budget if not pieces and job.left > budget else 0)
            )
            if take:
                pieces.append(Slice(job, job.done, job.done + take))
                room -= take
            if not room:
                break
        for piece in pieces:
            if piece.completes:
                self._forget(piece.job)
        return tuple(pieces)

    def _after_crash(self, batch: Batch) -> None:
        for piece in batch.slices:
            piece.job.crashes += 1
            if piece.job.crashes > 1:
                self._answer(piece.job, WorkerDown())
            else:
                self._requeue(piece.job)

    def _after_oom(self, batch: Batch) -> None:
        if batch.rows == 1:
            self._answer(batch.slices[0].job, OutOfMemory())
            return
        self._cap = max(1, batch.rows // 2)
        for piece in batch.slices:
            self._requeue(piece.job)

    def _after_error(self, batch: Batch) -> None:
        if len(batch.slices) == 1:
            self._answer(batch.slices[0].job, InferenceFailed())
            return
        middle = len(batch.slices) // 2
        for half in (batch.slices[:middle], batch.slices[middle:]):
            for piece in half:
                piece.job.running = True  # nothing else may pick it up meanwhile
            self._retries.append(half)

    def _requeue(self, job: Job) -> None:
        if not job.cancelled and all(job is not other for other in self.queued):
            self.add(job, job.arrived)

    def _recover(self) -> None:
        self._since_failure += 1
        if self._since_failure >= _RECOVERY and self._cap < self.limits.batch_rows:
            self._cap = min(self.limits.batch_rows, self._cap * 2)
            self._since_failure = 0

    def _leave(self, batch: Batch) -> None:
        self._running = [other for other in self._running if other is not batch]

    def _forget(self, job: Job) -> None:
        self._queue = [entry for entry in self._queue if entry[2] is not job]

    def _answer(self, job: Job, result: Any) -> None:
        self._forget(job)
        if not job.cancelled:
            job.cancelled = True  # answered: whatever still runs of it is not waited for
            job.answer(result)
