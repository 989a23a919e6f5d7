"""What runs next on the device: a queue ordered by deadline, packed into batches by what their rows
cost. No clock, no I/O.

A batch holds rows of one model and of one shape, since one call of the network computes it. Cost is
counted in rows of the model's own size: a larger row counts as several.

It is a state machine and reads no clock: ``app.batching.batcher`` drives it, and tests with a
made-up time.
"""

from collections import deque
from typing import Any

from app.batching.budget import Cap, Limits
from app.batching.errors import (
    DeadlineExceeded,
    InferenceFailed,
    OutOfMemory,
    Quarantined,
    ServiceError,
)
from app.batching.fairness import Priority, Turns, Use
from app.batching.jobs import Batch, Fault, Job, JobState, Slice, Trigger
from app.batching.queue import ClassedQueue, JobQueue
from app.batching.rate import Rates

# A small request may overtake larger ones whose deadline is at most this much earlier, in seconds.
SMALL_ADVANTAGE = 1.0
# A suspect lets those pass whose deadline is at most this much later, in seconds: what waited
# beside it is likely answered before it may end the worker again, and it still is not put off for
# ever.
_SUSPECT_PENALTY = 2.0
# Part of the device's time that the interactive class had lately, and bulk gives way to it.
_SEEN = 0.01


class Scheduler:
    """Owns the queue. At most one batch runs and one waits at the device."""

    def __init__(self, limits: Limits, rates: Rates) -> None:
        self.limits = limits
        self.rates = rates
        self.draining = False
        self._queue = ClassedQueue()
        self._turns = Turns(limits.batch_seconds)
        self._use = Use()  # of the interactive class
        self._retries: deque[tuple[Slice, ...]] = deque()
        self._running: list[Batch] = []  # the first one is computed, the other one waits behind it
        self._not_begun: set[Batch] = set()  # waited behind one that ended the worker
        self._busy_until = 0.0  # when the batches at the device are expected to be done
        self._caps: dict[str, Cap] = {}

    # What is there

    @property
    def queued(self) -> list[Job]:
        """Jobs not yet wholly handed over, most urgent first; sorts them, for reports and tests."""
        split = [p.job for p in self._handed_over() if not (p.completes or p.job.closed)]
        return sorted([*self._queue.by_urgency(), *split], key=lambda job: job.urgency)

    @property
    def idle(self) -> bool:
        """Nothing queued, nothing running, nothing to retry."""
        return not (self._queue or self._running or self._retries)

    def budget(self, model: str, *, gives_way: bool = False) -> int:
        """What a batch of that model may cost now; a single row may cost more."""
        return self.limits.rows(self.rates.of(model), self._cap(model).now, gives_way=gives_way)

    def work_seconds(self, model: str, cost: int) -> float:
        """Expected seconds of so much work in full batches; 0 while nothing is known."""
        budget = self.budget(model)
        return self.rates.of(model).seconds(budget) * cost / budget

    def overrun(self, now: float) -> float:
        """Seconds by which the batches at the device should be done."""
        return max(0.0, now - self._busy_until) if self._running else 0.0

    def busy(self, now: float) -> float:
        """Seconds until the batches at the device are expected to be done."""
        return max(0.0, self._busy_until - now) if self._running else 0.0

    def waits(self, priority: Priority) -> bool:
        """Whether a job of that class is queued."""
        return len(self._queue.of(priority)) > 0

    def interactive_use(self, now: float) -> float:
        """What part of the recent time the device was given to the interactive class."""
        return self._use.of(now)

    # What comes in and goes out

    def add(self, job: Job, now: float) -> None:
        """Queues a job, by its deadline; a small one counts as up to a second more urgent."""
        job.arrived = now
        penalty = min(SMALL_ADVANTAGE, self.rates.of(job.model).seconds(job.cost))
        job.urgency = job.deadline + penalty + (_SUSPECT_PENALTY if job.suspect else 0.0)
        self._queue.add(job)

    def cancel(self, job: Job) -> None:
        """The client is gone: forgets what is queued; what runs is not waited for."""
        if not job.closed:
            self._queue.remove(job)
            job.state = JobState.CANCELLED

    def expire(self, now: float) -> None:
        """Answers every queued job whose deadline has passed, before it costs anything."""
        while (job := self._queue.first_due()) and job.deadline <= now:
            self._finish(job, DeadlineExceeded())

    def next_batch(self, now: float) -> Batch | None:
        """The batch to hand to the device now, if there is one and the device is free (or soon will
        be).
        """
        self.expire(now)
        trigger = self._trigger(now)
        if trigger is None:
            return None
        slices = self._next_slices(now)
        if not slices:
            return None
        for piece in slices:
            piece.job.state = JobState.RUNNING
        batch = Batch(slices, trigger, now, self._expected(slices))
        self._count(slices[0].job.priority, batch.expected, now)
        # A batch that was handed over early starts when the one before it ends.
        starts = max(now, self._busy_until) if self._running else now
        self._busy_until = starts + batch.expected
        self._running.append(batch)
        return batch

    def wake_at(self, now: float) -> float | None:
        """When to look again though nothing happens: a deadline, or a running batch nearly done."""
        job = self._queue.first_due()
        if job is None:
            return None
        at = min(job.deadline, self._hand_over_at()) if len(self._running) == 1 else job.deadline
        return max(now, at)

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
                self._acquit(job)
                self._finish(job, result)
            elif not job.closed:
                job.partial.append(result)
                self._requeue(job)

    def failed(self, batch: Batch, fault: Fault) -> None:
        """Decides what becomes of a batch that gave no results; nobody is forgotten."""
        began = self._running[:1] == [batch] and batch not in self._not_begun
        self._leave(batch)
        self._cap(batch.model).good_batches = 0
        if fault is Fault.OUT_OF_MEMORY:
            self._after_oom(batch)
        elif fault is Fault.INFERENCE:
            self._after_error(batch)
        elif fault is Fault.WORKER_DIED and began:
            self._not_begun.update(self._running)
            self._after_crash(batch)
        else:
            self._requeue_all(batch)

    def lost(self, batch: Batch, error: ServiceError) -> None:
        """Gives up a batch that met with something unforeseen: trying again may do harm."""
        self._leave(batch)
        self._cap(batch.model).good_batches = 0
        for piece in batch.slices:
            self._finish(piece.job, error)

    def fail_all(self, error: ServiceError) -> None:
        """Answers everything that waits with one error (the drain's time is over); a suspect with
        one that nobody takes for an invitation to try it on another instance.
        """
        sliced = [piece.job for piece in self._handed_over()]
        for job in (*self._queue.by_urgency(), *sliced):
            self._finish(job, DeadlineExceeded() if job.suspect else error)
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
        """Whether what can run together with the most urgent job is as much as a batch may cost.
        Bulk does not stand at the device before its time: somebody may come.
        """
        queue = self._next_queue()
        first = queue.first()
        if first is None or first.priority is Priority.BULK:
            return False
        return queue.cost(first.kind) >= self.budget(first.model)

    def _next_queue(self) -> JobQueue:
        """That of the class whose turn it is."""
        interactive, bulk = (self._queue.of(priority) for priority in Priority)
        return bulk if bulk and (not interactive or self._turns.is_bulk) else interactive

    def _expected(self, slices: tuple[Slice, ...]) -> float:
        """Seconds at the device."""
        rate = self.rates.of(slices[0].job.model)
        beside = sum(piece.job.beside for piece in slices if piece.completes)
        return rate.seconds(sum(piece.cost for piece in slices)) + beside

    def _count(self, priority: Priority, seconds: float, now: float) -> None:
        """A batch of that class goes to the device."""
        if priority is Priority.INTERACTIVE:
            self._use.add(now, seconds)
        if any(self.waits(other) for other in Priority if other is not priority):
            self._turns.took(priority, seconds)

    def _hand_over_at(self) -> float:
        return self._busy_until - self.limits.lead

    def _handed_over(self) -> list[Slice]:
        """What is at the device, and what goes there again after a failure."""
        at_device = (batch.slices for batch in self._running)
        return [piece for pieces in (*self._retries, *at_device) for piece in pieces]

    def _next_slices(self, now: float) -> tuple[Slice, ...]:
        while self._retries:
            pieces = tuple(p for p in self._retries.popleft() if not p.job.closed)
            if pieces:
                return pieces
        return self._pack(now)

    def _pack(self, now: float) -> tuple[Slice, ...]:
        """Whole jobs of one kind by urgency, as many as fit; one much larger than the budget is
        split, if it comes first.
        """
        queue = self._next_queue()
        first = queue.first()
        if first is None:
            return ()
        is_bulk = first.priority is Priority.BULK
        gives_way = is_bulk and self.interactive_use(now) > _SEEN
        budget = self.budget(first.model, gives_way=gives_way)
        if self.limits.keeps_whole(first.cost, budget, self._cap(first.model).now):
            take = first.left
        else:
            # At least one row, however much it costs: waiting makes it no smaller.
            take = min(first.left, max(1, budget // first.row_cost))
        head = Slice(first, first.done, first.done + take)
        queue.remove(first)
        others = queue.take(first.kind, budget - head.cost)
        return head, *(Slice(job, job.done, job.rows) for job in others)

    def _after_crash(self, batch: Batch) -> None:
        """The jobs that ran become suspects and run alone from then on; one that ends the worker
        again has done it by itself.
        """
        for piece in batch.slices:
            job = piece.job
            alone = job.suspect
            job.crashes += 1
            job.on_crashes(job.crashes)
            if alone:
                self._finish(job, Quarantined())
            else:
                job.urgency += _SUSPECT_PENALTY
                self._requeue(job)

    def _acquit(self, job: Job) -> None:
        """Alone, a suspect ran to its end."""
        if job.suspect:
            job.crashes = 0
            job.on_crashes(0)

    def _after_oom(self, batch: Batch) -> None:
        if batch.rows == 1:
            self._finish(batch.slices[0].job, OutOfMemory())
            return
        self._cap(batch.model).halve(batch.cost)
        self._requeue_all(batch)

    def _after_error(self, batch: Batch) -> None:
        if len(batch.slices) == 1:
            self._finish(batch.slices[0].job, InferenceFailed())
            return
        # The jobs of both halves stay RUNNING: nothing else may pick them up meanwhile.
        middle = len(batch.slices) // 2
        self._retries += [batch.slices[:middle], batch.slices[middle:]]

    def _requeue_all(self, batch: Batch) -> None:
        for piece in batch.slices:
            self._requeue(piece.job)

    def _requeue(self, job: Job) -> None:
        if not job.closed:
            job.state = JobState.QUEUED
            self._queue.add(job)

    def _cap(self, model: str) -> Cap:
        most = self.limits.batch_rows
        return self._caps.setdefault(model, Cap(most, most))

    def _leave(self, batch: Batch) -> None:
        self._running = [other for other in self._running if other is not batch]
        self._not_begun.discard(batch)

    def _finish(self, job: Job, result: Any) -> None:
        """Answers a job that is still open; what else runs of it is not waited for."""
        if not job.closed:
            self._queue.remove(job)
            job.state = JobState.ANSWERED
            job.answer(result)
