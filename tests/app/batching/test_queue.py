"""The queue against a list that is searched, and the steps it takes when much waits."""

import random
from typing import Any

import pytest

from app.batching.jobs import Job
from app.batching.queue import JobQueue
from tests.app.batching.test_scheduler import House, make


def job(name: str, rows: int, urgency: float, deadline: float, shape: tuple[int, ...]) -> Job:
    return Job("m", rows, deadline, name, lambda _: None, shape, urgency=urgency)


def check(queue: JobQueue, expected: list[Job]) -> None:
    """``expected`` in order of arrival."""
    assert len(queue) == len(expected)
    assert queue.by_urgency() == sorted(expected, key=lambda j: j.urgency)
    assert queue.first() is min(expected, key=lambda j: j.urgency, default=None)
    assert queue.first_due() is min(expected, key=lambda j: j.deadline, default=None)
    for shape in ((1,), (2,)):
        kind = ("m", shape, None)
        assert queue.cost(kind) == sum(j.cost for j in expected if j.kind == kind) >= 0


def test_in_any_order_of_arrivals_and_departures_it_finds_what_a_search_finds() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        queue = JobQueue()
        waiting: list[Job] = []
        for i in range(400):
            dice = rng.random()
            if dice < 0.5:
                times = (rng.randint(0, 50), rng.randint(0, 50))
                new = job(f"{i}", rng.randint(1, 9), *times, rng.choice([(1,), (2,)]))
                queue.add(new)
                waiting.append(new)
            elif dice < 0.8 and waiting:
                gone = waiting.pop(rng.randrange(len(waiting)))
                queue.remove(gone)
                queue.remove(gone)
            elif waiting:
                kind = rng.choice(waiting).kind
                room = rng.randint(0, 20)
                taken: list[Job] = []
                for one in sorted(waiting, key=lambda j: j.urgency):
                    if one.kind == kind and one.cost <= room - sum(j.cost for j in taken):
                        taken.append(one)
                assert queue.take(kind, room) == taken
                waiting = [one for one in waiting if one not in taken]
            check(queue, waiting)


def test_it_keeps_nothing_of_what_left() -> None:
    queue = JobQueue()
    for i in range(5000):
        new = job(f"{i}", 1, i, 10_000 - i, (i,))
        queue.add(new)
        queue.remove(new)
    assert queue.take(("m", (0,), None), 5) == []
    kept: list[Any] = [queue._by_urgency, queue._by_deadline]
    assert all(len(heap._entries) <= 64 for heap in kept)
    assert not queue._by_kind
    assert not queue._costs


class Watched(Job):
    """A job that counts how often anything of it is looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        Watched.looks += 1
        return super().__getattribute__(name)


def looks_of_a_batch(queued: int, rows: int) -> int:
    house: House = make(batch_rows=128, batch_seconds=100.0)
    for i in range(queued):
        house.scheduler.add(Watched("m", rows, 50.0 + i % 7, i, lambda _: None), 0.0)
    before = Watched.looks
    batch = house.next()
    assert batch.rows == 128 // rows * rows
    house.scheduler.wake_at(0.0)
    house.scheduler.expire(1.0)
    house.scheduler.next_batch(0.0)
    return Watched.looks - before


@pytest.mark.parametrize("rows", [1, 50])  # with 50, all that is left does not fit
def test_a_batch_out_of_4000_takes_as_many_steps_as_one_out_of_400(rows: int) -> None:
    assert looks_of_a_batch(4000, rows) <= 1.1 * looks_of_a_batch(400, rows)


def test_cancelling_takes_as_many_steps_whatever_waits() -> None:
    def looks(queued: int) -> int:
        house = make()
        jobs = [Watched("m", 1, 50.0 + i, i, lambda _: None) for i in range(queued)]
        for one in jobs:
            house.scheduler.add(one, 0.0)
        before = Watched.looks
        for one in jobs[100:200]:
            house.scheduler.cancel(one)
        return Watched.looks - before

    assert looks(4000) == looks(400)
