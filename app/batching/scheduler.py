"""What runs next, and on which worker: one queue ordered by deadline, packed into batches by what
their rows cost. No clock, no I/O.

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
from app.batching.workers import Lanes, WorkerLane

# A small request may overtake larger ones whose deadline is at most this much earlier, in seconds.
SMALL_ADVANTAGE = 1.0
# A suspect lets those pass whose deadline is at most this much later, in seconds: what waited
# beside it is likely answered before it may end the worker again, and it still is not put off for
# ever.
_SUSPECT_PENALTY = 2.0
# Part of the device's time that the interactive class had lately, and bulk gives way to it.
_SEEN = 0.01


class Scheduler:
    """Owns the queue. At most one batch runs and one waits at each worker.

    Where there are several workers, an image that is suspected of having ended one runs while no
    other suspect does, and only beside another worker that would outlive it, as long as its
    deadline allows: it never ends the last one before half of its time is over.
    """

    def __init__(self, limits: Limits, *rates: Rates) -> None:
        """``rates``: of each worker."""
        self.lanes = Lanes(limits, rates)
        self.draining = False
        self._queue = ClassedQueue(parks_suspects=len(rates) > 1)
        self._turns = Turns(limits.batch_seconds)
        self._use = Use()  # of the interactive class
        self._retries: deque[tuple[Slice, ...]] = deque()

    def grow(self, rates: Rates) -> WorkerLane:
        """One more worker, which is not up yet."""
        self._queue.parks_suspects = True
        return self.lanes.grow(rates)

    # What is there

    @property
    def queued(self) -> list[Job]:
        """Jobs not yet wholly handed over, most urgent first; sorts them, for reports and tests."""
        split = [p.job for p in self._handed_over() if not (p.completes or p.job.closed)]
        return sorted([*self._queue.by_urgency(), *split], key=lambda job: job.urgency)

    @property
    def idle(self) -> bool:
        """Nothing queued, nothing running, nothing to retry."""
        return not (self._queue or self.lanes.batches or self._retries)

    @property
    def workers(self) -> int:
        """How many compute now; all of them while none does."""
        return len(self.lanes.usable) or len(self.lanes)

    def at_once(self, model: str) -> int:
        """What one batch of that model at each worker that is up may cost together."""
        lanes = self.lanes.usable or self.lanes
        return sum(self.lanes.budget(lane, model) for lane in lanes)

    def work_seconds(self, model: str, cost: int) -> float:
        """Expected seconds of so much work in full batches, on all workers that are up together; 0
        while nothing is known.
        """
        return self.lanes.joint_seconds(model, cost)

    def alone_seconds(self, model: str, cost: int) -> float:
        """The same for an image, which one worker computes."""
        return self.lanes.least_seconds(model, cost)

    def overrun(self, now: float) -> float:
        """Seconds by which what is at the workers should be done, in the mean."""
        return sum(lane.overrun(now) for lane in self.lanes.usable) / self.workers

    def busy(self, now: float) -> float:
        """Seconds until the first worker is expected to be done with what is at it."""
        return min((lane.busy(now) for lane in self.lanes.usable), default=0.0)

    def waits(self, priority: Priority) -> bool:
        """Whether a job of that class is queued."""
        return len(self._queue.of(priority)) > 0

    def interactive_use(self, now: float) -> float:
        """What part of the recent time the workers were given to the interactive class."""
        return self._use.of(now)

    # What comes in and goes out

    def add(self, job: Job, now: float) -> None:
        """Queues a job, by its deadline; a small one counts as up to a second more urgent."""
        job.arrived = now
        seconds = max(lane.rates.of(job.model).seconds(job.cost) for lane in self.lanes)
        penalty = min(SMALL_ADVANTAGE, seconds)
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
        """The batch to hand to a worker now, if there is one and a worker is free (or soon will
        be).
        """
        self.expire(now)
        self._release_a_suspect(now)
        turn = self._turn(now)
        if turn is None:
            return None
        lane, trigger = turn
        slices = self._next_slices(lane, now)
        if not slices:
            return None
        for piece in slices:
            piece.job.state = JobState.RUNNING
        loan = self.lanes.loan(lane, more=bool(self._queue.ready or self._retries))
        expected = self._expected(lane, slices) / loan.boost
        batch = Batch(slices, trigger, now, expected, lane.number, loan)
        self._count(slices[0].job.priority, batch.expected, now)
        lane.take(batch, now)
        return batch

    def wake_at(self, now: float) -> float | None:
        """When to look again though nothing happens: a deadline, a running batch nearly done, or a
        suspect that can wait no longer.
        """
        job = self._queue.first_due()
        if job is None:
            return None
        times = [job.deadline]
        lane = self._next_to_end() if self._queue.ready else None
        if lane is not None:
            times.append(self._hand_over_at(lane))
        times += (at for parked in self._queue.parked() if (at := _waits_until(parked)) > now)
        return max(now, min(times))

    # What the device says

    def finished(self, batch: Batch, results: list[Any], seconds: float) -> None:
        """Takes in one result per slice: the answer (or a ServiceError) of a slice that completes
        its job, or rows.

        Raises:
            ValueError: another number of results than slices; nobody was answered.
        """
        if len(results) != len(batch.slices):
            raise ValueError(f"{len(results)} results for {len(batch.slices)} slices")
        self.lanes[batch.lane].leave(batch)
        self.lanes.learn(batch, seconds)
        self._cap(batch).after_good_batch()
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
        lane = self.lanes[batch.lane]
        began = lane.leave(batch)
        self._cap(batch).good_batches = 0
        if fault is Fault.OUT_OF_MEMORY:
            self._after_oom(batch)
        elif fault is Fault.INFERENCE:
            self._after_error(batch)
        elif fault is Fault.WORKER_DIED and began:
            lane.ended()
            self._after_crash(batch)
        else:
            self._requeue_all(batch)

    def lost(self, batch: Batch, error: ServiceError) -> None:
        """Gives up a batch that met with something unforeseen: trying again may do harm."""
        self.lanes[batch.lane].leave(batch)
        self._cap(batch).good_batches = 0
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

    def _release_a_suspect(self, now: float) -> None:
        """The next one that may run, if no other one is at a worker."""
        self._queue.recall()
        parked = self._queue.parked()
        if not parked or any(batch.suspect for batch in self.lanes.batches):
            return
        has_company = len(self.lanes.usable) > 1
        ready = (job for job in parked if has_company or now >= _waits_until(job))
        if job := next(ready, None):
            self._queue.release(job)

    def _turn(self, now: float) -> tuple[WorkerLane, Trigger] | None:
        """Who gets a batch: of the idle ones whoever would be done first; only where none is idle,
        the busy one that is done first gets a second batch, in time or if there is one for each.
        """
        idle = [lane for lane in self.lanes.usable if not lane.running]
        if idle:
            return self._fastest(idle), "drain" if self.draining else "idle"
        lane = self._next_to_end()
        if lane is None:
            return None
        if self._fills_batches():
            return lane, "full"
        return (lane, "idle") if now >= self._hand_over_at(lane) else None

    def _fastest(self, idle: list[WorkerLane]) -> WorkerLane:
        if len(idle) == 1:
            return idle[0]
        if self._retries:
            pieces = self._retries[0]
            return self.lanes.fastest(idle, pieces[0].job.model, sum(p.cost for p in pieces))
        first = self._next_queue().first()
        return self.lanes.fastest(idle, first.model, first.cost) if first else idle[0]

    def _with_room(self) -> list[WorkerLane]:
        """Busy ones that may have a second batch, which none may while another one is idle."""
        usable = self.lanes.usable
        if not all(lane.running for lane in usable):
            return []
        return [lane for lane in usable if len(lane.running) == 1]

    def _next_to_end(self) -> WorkerLane | None:
        return min(self._with_room(), key=lambda lane: lane.busy_until, default=None)

    def _fills_batches(self) -> bool:
        """Whether what can run together with the most urgent job is as much as a batch may cost,
        for each worker that has room for one: none is to be idle while rows wait at another. Bulk
        does not stand at the device before its time: somebody may come.
        """
        queue = self._next_queue()
        first = queue.first()
        if first is None or first.priority is Priority.BULK:
            return False
        full = sum(self.lanes.budget(lane, first.model) for lane in self._with_room())
        return queue.cost(first.kind) >= full

    def _next_queue(self) -> JobQueue:
        """That of the class whose turn it is."""
        interactive, bulk = (self._queue.of(priority) for priority in Priority)
        return bulk if bulk and (not interactive or self._turns.is_bulk) else interactive

    @staticmethod
    def _expected(lane: WorkerLane, slices: tuple[Slice, ...]) -> float:
        """Seconds at the worker."""
        rate = lane.rates.of(slices[0].job.model)
        beside = sum(piece.job.beside for piece in slices if piece.completes)
        return rate.seconds(sum(piece.cost for piece in slices)) + beside

    def _count(self, priority: Priority, seconds: float, now: float) -> None:
        """A batch of that class goes to the device."""
        if priority is Priority.INTERACTIVE:
            self._use.add(now, seconds / self.workers)
        if any(self.waits(other) for other in Priority if other is not priority):
            self._turns.took(priority, seconds)

    def _hand_over_at(self, lane: WorkerLane) -> float:
        return lane.busy_until - self.lanes.limits.lead

    def _handed_over(self) -> list[Slice]:
        """What is at the device, and what goes there again after a failure."""
        at_device = (batch.slices for batch in self.lanes.batches)
        return [piece for pieces in (*self._retries, *at_device) for piece in pieces]

    def _next_slices(self, lane: WorkerLane, now: float) -> tuple[Slice, ...]:
        while self._retries:
            pieces = tuple(p for p in self._retries.popleft() if not p.job.closed)
            if pieces:
                return pieces
        return self._pack(lane, now)

    def _pack(self, lane: WorkerLane, now: float) -> tuple[Slice, ...]:
        """Whole jobs of one kind by urgency, as many as fit; one much larger than the budget is
        split, if it comes first.
        """
        queue = self._next_queue()
        first = queue.first()
        if first is None:
            return ()
        is_bulk = first.priority is Priority.BULK
        gives_way = is_bulk and self.interactive_use(now) > _SEEN
        budget = self.lanes.budget(lane, first.model, gives_way=gives_way)
        share = self.lanes.share(lane, first.model, queue.cost(first.kind), now)
        if self.lanes.limits.keeps_whole(first.cost, budget, lane.cap(first.model).now):
            take = first.left
        else:
            # At least one row, however much it costs: waiting makes it no smaller.
            take = min(first.left, max(1, budget // first.row_cost))
        head = Slice(first, first.done, first.done + take)
        queue.remove(first)
        others = queue.take(first.kind, min(budget, share) - head.cost)
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
        self._cap(batch).halve(batch.cost)
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

    def _cap(self, batch: Batch) -> Cap:
        return self.lanes[batch.lane].cap(batch.model)

    def _finish(self, job: Job, result: Any) -> None:
        """Answers a job that is still open; what else runs of it is not waited for."""
        if not job.closed:
            self._queue.remove(job)
            job.state = JobState.ANSWERED
            job.answer(result)


def _waits_until(suspect: Job) -> float:
    """How long it waits for a worker that would outlive it: half of its time."""
    return (suspect.arrived + suspect.deadline) / 2
