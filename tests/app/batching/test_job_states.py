"""Every admitted job is answered exactly once, or cancelled, in whatever order things happen."""

import itertools
import random
from collections.abc import Callable

import pytest

from app.batching.errors import Internal
from app.batching.fairness import Priority
from app.batching.jobs import Batch, Fault, Job, JobState
from tests.app.batching.test_scheduler import House, make

FINAL = {JobState.ANSWERED, JobState.CANCELLED}


class Day:
    """A scheduler with three jobs, one of them split over two batches, and the batches out."""

    def __init__(self) -> None:
        self.house = make(batch_rows=8)
        self.jobs = [
            self.house.add("split", 12, deadline=1.0),
            self.house.add("small", 2, deadline=2.0),
            self.house.add("late", 8, deadline=9.0),
        ]
        self.now = 0.0
        self.out: list[Batch] = []
        self.closed: dict[Job, JobState] = {}

    def hand_over(self) -> None:
        if batch := self.house.scheduler.next_batch(self.now):
            assert all(piece.job.state is JobState.RUNNING for piece in batch.slices)
            self.out.append(batch)

    def come_back(self, what: Callable[[Batch], None]) -> None:
        if self.out:
            what(self.out.pop(0))

    def finish(self) -> None:
        self.come_back(self.house.finish)

    def fail(self, fault: Fault) -> None:
        self.come_back(lambda batch: self.house.scheduler.failed(batch, fault))

    def lose(self) -> None:
        self.come_back(lambda batch: self.house.scheduler.lost(batch, Internal()))

    def expire(self) -> None:
        self.now += 1.0
        self.house.scheduler.expire(self.now)

    def cancel(self, name: str) -> None:
        self.house.scheduler.cancel(next(job for job in self.jobs if job.payload == name))

    def check(self) -> None:
        """A job has an answer if and only if its state says so, and leaves no final state."""
        queued, waiting = (
            self.house.scheduler.queued,
            self.house.scheduler._queue.of(Priority.INTERACTIVE),
        )
        assert all(waiting.cost(job.kind) >= 0 for job in self.jobs)
        for job in self.jobs:
            answered = job.state is JobState.ANSWERED
            assert len(self.house.answers[job.payload]) == answered
            assert self.closed.get(job, job.state) is job.state
            assert (job in waiting) == (job.state is JobState.QUEUED)
            if job.state in FINAL:
                self.closed[job] = job.state
                assert job not in queued

    def end(self) -> None:
        """Lets everything that is left be computed."""
        while not self.house.scheduler.idle:
            self.hand_over()
            self.finish()
        self.check()
        assert {job.state for job in self.jobs} <= FINAL


STEPS: dict[str, Callable[[Day], None]] = {
    "hand over": Day.hand_over,
    "finish": Day.finish,
    "fail": lambda day: day.fail(Fault.INFERENCE),
    "out of memory": lambda day: day.fail(Fault.OUT_OF_MEMORY),
    "crash": lambda day: day.fail(Fault.WORKER_DIED),
    "lose": Day.lose,
    "expire": Day.expire,
    "cancel the split one": lambda day: day.cancel("split"),
    "cancel the small one": lambda day: day.cancel("small"),
}


@pytest.mark.parametrize("first", STEPS)
def test_each_job_is_answered_once_or_cancelled_in_any_order_of_five_steps(first: str) -> None:
    for names in itertools.product(STEPS, repeat=3):
        day = Day()
        for name in ("hand over", first, *names):
            STEPS[name](day)
            day.check()
        day.end()


def test_each_of_many_jobs_is_answered_once_or_cancelled_whatever_happens() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        house, now, jobs = make(batch_rows=8), 0.0, []
        running: list[Batch] = []
        for i in range(40):
            jobs.append(house.add(f"{i}", rng.randint(1, 20), now + rng.uniform(0.5, 20), now=now))
            now += rng.uniform(0, 0.1)
            if batch := house.scheduler.next_batch(now):
                running.append(batch)
            if running and rng.random() < 0.7:
                _come_back(house, running.pop(0), rng)
            if rng.random() < 0.1:
                house.scheduler.cancel(rng.choice(jobs))
        while not house.scheduler.idle:
            now += 0.05
            if batch := house.scheduler.next_batch(now):
                running.append(batch)
            if running:
                house.finish(running.pop(0))
        assert not house.scheduler._queue.of(Priority.INTERACTIVE)._costs
        for job in jobs:
            assert job.state in FINAL
            assert len(house.answers[job.payload]) == (job.state is JobState.ANSWERED)


def _come_back(house: House, batch: Batch, rng: random.Random) -> None:
    fault = rng.choice([None, None, None, "lost", *Fault])
    if fault is None:
        house.finish(batch)
    elif isinstance(fault, Fault):
        house.scheduler.failed(batch, fault)
    else:
        house.scheduler.lost(batch, Internal())


def test_a_lost_batch_is_not_tried_again_and_the_others_go_on() -> None:
    house = make(batch_rows=8)
    for name in ("a", "b", "c"):
        house.add(name, 4)
    house.scheduler.lost(house.next(), Internal())
    assert [type(answers[0]) for answers in house.answers.values() if answers] == [Internal] * 2
    house.finish(house.next())
    assert house.answers["c"] == ["c:0-4"]
    assert house.scheduler.idle


def test_who_is_answered_already_can_no_longer_be_cancelled() -> None:
    house = make()
    job = house.add("a", 4)
    house.finish(house.next())
    house.scheduler.cancel(job)
    assert job.state is JobState.ANSWERED
