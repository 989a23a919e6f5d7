"""Several workers under one scheduler and a fake clock: who gets what, and what their end costs."""

import heapq
import itertools
from dataclasses import dataclass, field

import pytest

from app.batching.budget import Limits
from app.batching.errors import Quarantined
from app.batching.fairness import Priority
from app.batching.jobs import Batch, Fault
from app.batching.rate import Rates
from app.batching.scheduler import Scheduler
from tests.app.batching.test_scheduler import House, parts


def house(*per_row: float, batch_rows: int = 20, lead: float = 0.01) -> House:
    """A worker for each of these seconds a row, all measured."""
    rates = [Rates() for _ in per_row]
    for each, seconds in zip(rates, per_row, strict=True):
        for rows in (5, 10, 20):
            each.of("m").observe(rows, rows * seconds)
    limits = Limits(batch_seconds=10.0, batch_rows=batch_rows, lead=lead)
    return House(Scheduler(limits, *rates))


def names(batch: Batch) -> list[str]:
    return [name for name, _, _ in parts(batch)]


@dataclass
class Machine:
    """Computes what the scheduler hands over, each worker at its own speed, without a gap."""

    house: House
    per_row: tuple[float, ...]
    now: float = 0.0
    ends: list[tuple[float, int, Batch]] = field(default_factory=list)
    free_at: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    idle: float = 0.0  # seconds in which a worker was idle while rows waited
    order: "itertools.count[int]" = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.free_at = [0.0] * len(self.per_row)
        self.rows = [0] * len(self.per_row)

    def hand_over(self) -> None:
        while batch := self.house.scheduler.next_batch(self.now):
            lane = batch.lane
            start = max(self.now, self.free_at[lane])
            self.free_at[lane] = start + batch.cost * self.per_row[lane]
            heapq.heappush(self.ends, (self.free_at[lane], next(self.order), batch))

    def run(self, until: float) -> None:
        scheduler = self.house.scheduler
        while True:
            self.hand_over()
            idle = any(not lane.running for lane in scheduler.lanes)
            waits = any(scheduler.waits(priority) for priority in Priority)
            times = [self.ends[0][0]] if self.ends else []
            wake = scheduler.wake_at(self.now)
            times += [wake] if wake is not None and wake > self.now else []
            then = min([until, *times])
            self.idle += (then - self.now) * (idle and waits)
            self.now = then
            if then >= until:
                return
            while self.ends and self.ends[0][0] <= self.now:
                batch = heapq.heappop(self.ends)[2]
                self.rows[batch.lane] += batch.cost
                results = ["done"] * len(batch.slices)
                scheduler.finished(batch, results, batch.cost * self.per_row[batch.lane])


def test_an_idle_worker_gets_the_batch_and_no_busy_one_a_second() -> None:
    two = house(0.01, 0.01)
    two.add("a", 20)
    two.add("b", 20)
    assert [two.next().lane, two.next().lane] == [0, 1]
    two.add("c", 20)
    assert two.scheduler.next_batch(0.0) is None
    two.add("d", 20)
    two.add("e", 20)
    assert two.next(0.01).trigger == "full"


def test_of_two_idle_workers_the_one_that_is_done_first_gets_it() -> None:
    two = house(0.04, 0.01)
    two.add("a", 5)
    assert two.next().lane == 1
    two.add("b", 5)
    assert two.next().lane == 0


def test_what_waits_is_shared_out_by_speed_so_that_all_are_done_together() -> None:
    two = house(0.03, 0.01, batch_rows=100)
    for number in range(40):
        two.add(f"{number}", 1)
    fast, slow = two.next(), two.next()
    assert [(fast.lane, fast.cost), (slow.lane, slow.cost)] == [(1, 30), (0, 10)]


def test_a_worker_leaves_to_another_what_that_will_soon_be_free_for() -> None:
    two = house(0.01, 0.01, batch_rows=100)
    two.add("running", 10)
    assert two.next(0.0).lane == 0
    for number in range(30):
        two.add(f"{number}", 1)
    assert two.next(0.0).cost == 20  # done at 0.2 s, as the other one with 10 after its 10


def test_a_worker_that_is_down_gets_nothing_and_one_that_is_silent_only_as_the_last() -> None:
    two = house(0.01, 0.01)
    two.scheduler.lanes[0].up = False
    two.add("a", 20)
    assert two.next().lane == 1
    two.scheduler.lanes[0].up = True
    two.scheduler.lanes[0].well = False
    two.add("b", 20)
    assert two.next().lane == 1
    two.scheduler.lanes[1].up = False
    two.add("c", 20)
    assert two.next().lane == 0


def test_unlike_workers_share_work_by_their_rates_and_none_is_idle_while_rows_wait() -> None:
    per_row = (0.004, 0.001)
    machine = Machine(house(*per_row), per_row)
    for number in range(2000):
        machine.house.add(f"{number}", 1 + number % 7, deadline=1000.0)
    machine.run(4.0)
    slow, fast = machine.rows
    assert fast / slow == pytest.approx(4, rel=0.05)
    assert slow + fast == pytest.approx(4.0 * (1000 + 250), rel=0.02)
    assert machine.idle == 0


@pytest.mark.parametrize("per_row", [(0.01,) * 2, (0.01,) * 4, (0.02, 0.01, 0.005)])
def test_no_worker_is_idle_while_rows_wait_however_they_come(per_row: tuple[float, ...]) -> None:
    machine = Machine(house(*per_row), per_row)
    for number in range(300):
        machine.house.add(f"{number}", 1 + number * 5 % 11, deadline=1e3, now=machine.now)
        machine.run(machine.now + 0.002 * (number * 7 % 13))
    machine.run(60.0)
    assert machine.idle == 0
    assert all(len(answers) == 1 for answers in machine.house.answers.values())


def test_the_backlog_is_divided_by_the_rate_of_all_that_are_up() -> None:
    two = house(0.01, 0.03)
    assert two.scheduler.work_seconds("m", 100) == pytest.approx(0.75)
    assert two.scheduler.alone_seconds("m", 100) == pytest.approx(1.0)
    two.scheduler.lanes[0].up = False
    assert two.scheduler.work_seconds("m", 100) == pytest.approx(3.0)
    assert two.scheduler.workers == 1
    two.scheduler.lanes[1].up = False  # the state of the service says that; estimates stay
    assert two.scheduler.work_seconds("m", 100) == pytest.approx(0.75)


def test_memory_that_one_worker_lacks_makes_the_batches_of_no_other_smaller() -> None:
    two = house(0.01, 0.01)
    two.add("a", 20)
    two.scheduler.failed(two.next(), Fault.OUT_OF_MEMORY)
    budgets = [two.scheduler.lanes.budget(lane, "m") for lane in two.scheduler.lanes]
    assert budgets == [10, 20]


def test_a_batch_of_a_dead_worker_runs_on_another_at_once_if_it_had_not_begun() -> None:
    two = house(0.01, 0.01)
    for name in "abcd":
        two.add(name, 20)
    running = [two.next() for _ in range(4)]
    mine = [batch for batch in running if batch.lane == 0]
    two.scheduler.lanes[0].up = False
    for batch in mine:
        two.scheduler.failed(batch, Fault.WORKER_DIED)
    (began, waited) = (names(batch) for batch in mine)
    for batch in running:
        if batch.lane == 1:
            two.finish(batch)
    assert names(two.next(1.0)) == waited
    assert two.scheduler.next_batch(1.0) is None
    two.scheduler.lanes[0].up = True
    assert names(two.next(1.0)) == began


def with_a_suspect(name: str) -> House:
    """Of two workers one is away, which an image may have ended."""
    two = house(0.01, 0.01)
    two.add(name, 10, deadline=8.0)
    two.scheduler.failed(two.next(), Fault.WORKER_DIED)
    two.scheduler.lanes[0].up = False
    return two


def test_a_suspect_ends_one_worker_at_most_while_the_other_one_is_away() -> None:
    two = with_a_suspect("poison")
    assert two.scheduler.next_batch(1.0) is None
    assert two.scheduler.wake_at(1.0) == pytest.approx(4.0)
    two.scheduler.lanes[0].up = True
    again = two.next(2.0)
    two.scheduler.failed(again, Fault.WORKER_DIED)
    assert [type(answer) for answer in two.answers["poison"]] == [Quarantined]


def test_a_suspect_whose_time_runs_out_does_not_wait_for_company() -> None:
    two = with_a_suspect("suspect")
    assert two.scheduler.next_batch(3.9) is None
    assert names(two.next(4.0)) == ["suspect"]


def test_suspects_run_one_at_a_time_over_all_workers_and_others_beside_them() -> None:
    three = house(0.01, 0.01, 0.01)
    for name in "ab":
        three.add(name, 10)
    for batch in [three.next(), three.next()]:
        three.scheduler.failed(batch, Fault.WORKER_DIED)
    three.add("other", 20, deadline=13.0)
    running = [three.next(), three.next()]
    assert sorted(map(names, running)) == [["a"], ["other"]]
    assert three.scheduler.next_batch(0.0) is None
    for batch in running:
        three.finish(batch)
    assert names(three.next()) == ["b"]


def test_a_suspect_that_hung_up_or_expired_while_it_waited_apart_is_gone() -> None:
    two = house(0.01, 0.01)
    gone, late = two.add("gone", 10), two.add("late", 10, deadline=5.0)
    for batch in [two.next(), two.next()]:
        two.scheduler.failed(batch, Fault.WORKER_DIED)
    two.scheduler.lanes[0].up = False
    assert (gone.suspect, late.suspect) == (True, True)
    two.scheduler.cancel(gone)
    two.scheduler.expire(6.0)
    assert two.scheduler.idle
    assert (len(two.answers["gone"]), len(two.answers["late"])) == (0, 1)
