"""A scheduler beside which books are kept, with which it must agree after each step."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from app.batching.budget import Limits
from app.batching.errors import (
    DeadlineExceeded,
    Draining,
    InferenceFailed,
    Internal,
    Quarantined,
    ServiceError,
)
from app.batching.jobs import Batch, Fault, Job
from app.batching.rate import Rates
from app.batching.scheduler import Scheduler
from tests.app.batching.mortal import Image

ROWS = 16
# So long after something happened the batcher may take to hand over what can run then.
HASTE = 0.01
# Good batches after which a worker may try again what its memory did not hold.
RECOVERY = 200


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
        waits = bool(self._queue.ready or self._retries)
        waits |= bool(self._queue.parked()) and len(usable) > 1 and not suspect
        return waits and any(not lane.running for lane in usable)

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
