"""The scheduler under a fake clock: the tests say what time it is."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from app.batching.budget import Limits
from app.batching.errors import DeadlineExceeded, Draining, InferenceFailed, OutOfMemory
from app.batching.fairness import Priority
from app.batching.jobs import Batch, Fault, Job
from app.batching.rate import Rates
from app.batching.scheduler import Scheduler

PER_ROW = 0.01


@dataclass
class House:
    """A scheduler whose device takes 10 ms a row, and everything that it answered."""

    scheduler: Scheduler
    answers: dict[str, list[Any]] = field(default_factory=dict)

    def add(
        self,
        name: str,
        rows: int,
        deadline: float = 10.0,
        *,
        now: float = 0.0,
        model: str = "m",
        shape: tuple[int, ...] = (),
        row_cost: int = 1,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Job:
        self.answers[name] = []
        job = Job(model, rows, deadline, name, self.answers[name].append, shape, row_cost)
        job.priority = priority
        self.scheduler.add(job, now)
        return job

    def next(self, now: float = 0.0) -> Batch:
        batch = self.scheduler.next_batch(now)
        assert batch is not None
        return batch

    def budget(self, model: str) -> int:
        return self.scheduler.lanes.budget(self.scheduler.lanes[0], model)

    def finish(self, batch: Batch) -> None:
        results = [f"{s.job.payload}:{s.start}-{s.stop}" for s in batch.slices]
        self.scheduler.finished(batch, results, batch.cost * PER_ROW)


def make(batch_rows: int = 20, batch_seconds: float = 10.0) -> House:
    rates = Rates()
    for model in "mn":
        rates.of(model).observe(10, 10 * PER_ROW)
    limits = Limits(batch_seconds=batch_seconds, batch_rows=batch_rows, lead=0.01)
    return House(Scheduler(limits, rates))


@pytest.fixture
def house() -> House:
    return make()


def parts(batch: Batch) -> list[tuple[Any, int, int]]:
    return [(s.job.payload, s.start, s.stop) for s in batch.slices]


def test_a_lone_request_starts_at_once(house: House) -> None:
    house.add("a", 9)
    batch = house.next(now=0.0)
    assert parts(batch) == [("a", 0, 9)]
    assert batch.trigger == "idle"


def test_nothing_queued_gives_no_batch(house: House) -> None:
    assert house.scheduler.next_batch(0.0) is None
    assert house.scheduler.wake_at(0.0) is None


def test_a_busy_device_gets_no_small_batch_before_its_last_moments(house: House) -> None:
    house.add("a", 10)
    house.next(now=0.0)  # expected to end at 0.10
    house.add("b", 5)
    assert house.scheduler.next_batch(0.05) is None
    assert house.scheduler.wake_at(0.05) == pytest.approx(0.09)
    assert parts(house.next(now=0.091)) == [("b", 0, 5)]


def test_a_batch_that_was_handed_over_early_counts_from_the_end_of_the_one_before(
    house: House,
) -> None:
    house.add("a", 10)
    first = house.next(now=0.0)  # ends at 0.10
    house.add("b", 20)
    house.next(now=0.01)  # full, handed over at once; runs from 0.10 to 0.30
    house.finish(first)
    house.add("c", 5)
    assert house.scheduler.next_batch(0.22) is None
    assert house.scheduler.wake_at(0.22) == pytest.approx(0.29)
    assert parts(house.next(now=0.291)) == [("c", 0, 5)]


def test_a_busy_device_gets_a_full_batch_at_once_and_never_a_third(house: House) -> None:
    house.add("a", 10)
    house.next(now=0.0)
    house.add("b", 20)
    house.add("c", 20)
    assert house.next(now=0.01).trigger == "full"
    assert house.scheduler.next_batch(0.02) is None


def test_batches_are_packed_by_rows_with_whole_requests(house: House) -> None:
    for name, rows in (("a", 9), ("b", 9), ("c", 9), ("d", 2)):
        house.add(name, rows)
    assert sorted(parts(house.next())) == [("a", 0, 9), ("b", 0, 9), ("d", 0, 2)]


def test_an_oversize_request_is_split_and_answered_once_with_all_its_rows(house: House) -> None:
    job = house.add("big", 50)
    seen = []
    for now in (0.0, 1.0, 2.0):
        batch = house.next(now)
        seen += parts(batch)
        if batch.slices[-1].completes:
            assert job.partial == ["big:0-20", "big:20-40"]
        house.finish(batch)
    assert seen == [("big", 0, 20), ("big", 20, 40), ("big", 40, 50)]
    assert house.answers["big"] == ["big:40-50"]
    assert house.scheduler.idle


def test_slices_of_one_request_never_run_at_the_same_time(house: House) -> None:
    house.add("big", 50)
    house.next(0.0)
    assert house.scheduler.next_batch(0.19) is None


def test_the_last_slice_shares_its_batch(house: House) -> None:
    house.add("big", 25)
    house.finish(house.next(0.0))
    house.add("small", 9)
    assert sorted(parts(house.next(1.0))) == [("big", 20, 25), ("small", 0, 9)]


def test_the_budget_is_the_work_of_batch_seconds_at_the_model_s_measured_rate() -> None:
    house = make(batch_rows=128, batch_seconds=0.25)
    house.scheduler.lanes[0].rates.of("slow").observe(10, 10 * 5 * PER_ROW)
    assert house.budget("m") == 25
    assert house.budget("slow") == 5
    assert house.budget("unmeasured") == 128


def test_models_do_not_share_a_batch(house: House) -> None:
    house.add("a", 5, model="m")
    house.add("b", 5, model="n")
    house.add("c", 5, model="m")
    assert parts(house.next()) == [("a", 0, 5), ("c", 0, 5)]


def test_the_earlier_deadline_goes_first(house: House) -> None:
    house.add("late", 15, deadline=9.0)
    house.add("soon", 15, deadline=5.0)
    assert parts(house.next()) == [("soon", 0, 15)]


def test_a_small_request_overtakes_a_large_one_but_only_by_a_bounded_time() -> None:
    house = make(batch_rows=200)
    house.add("large", 150, deadline=5.0)
    house.add("small", 1, deadline=5.9)
    house.add("later", 1, deadline=6.2)
    assert [name for name, _, _ in parts(house.next())] == ["small", "large", "later"]


def test_a_cancelled_request_is_never_computed(house: House) -> None:
    job = house.add("gone", 5)
    house.add("here", 5)
    house.scheduler.cancel(job)
    assert parts(house.next()) == [("here", 0, 5)]
    assert house.answers["gone"] == []


def test_an_expired_request_is_answered_before_it_costs_anything(house: House) -> None:
    house.add("late", 5, deadline=1.0)
    house.add("fine", 5, deadline=9.0)
    assert parts(house.next(now=1.0)) == [("fine", 0, 5)]
    assert [type(a) for a in house.answers["late"]] == [DeadlineExceeded]


def test_an_expired_split_request_stops_after_its_running_slice(house: House) -> None:
    house.add("big", 50, deadline=1.0)
    house.finish(house.next(0.0))
    assert house.scheduler.next_batch(2.0) is None
    assert [type(a) for a in house.answers["big"]] == [DeadlineExceeded]


def test_a_cancelled_running_request_does_not_wedge_anything(house: House) -> None:
    job = house.add("gone", 5)
    house.add("here", 5)
    batch = house.next()
    house.scheduler.cancel(job)
    house.finish(batch)
    assert house.answers["gone"] == []
    assert house.answers["here"] == ["here:0-5"]
    assert house.scheduler.idle


def test_a_failing_image_is_found_by_halving_and_the_others_get_their_scores(house: House) -> None:
    for name in "abcde":
        house.add(name, 2)
    while not house.scheduler.idle:
        batch = house.next()
        if any(s.job.payload == "c" for s in batch.slices):
            house.scheduler.failed(batch, Fault.INFERENCE)
        else:
            house.finish(batch)
    assert [type(a) for a in house.answers["c"]] == [InferenceFailed]
    for name in "abde":
        assert house.answers[name] == [f"{name}:0-2"]


def test_a_failed_last_slice_is_retried_alone_and_computed_once(house: House) -> None:
    job = house.add("big", 25)
    house.finish(house.next())
    house.add("other", 5)
    shared = house.next()
    assert shared.rows == 10
    house.scheduler.failed(shared, Fault.INFERENCE)
    for _ in range(2):
        house.finish(house.next())
    assert house.scheduler.idle
    assert job.partial == ["big:0-20"]
    assert house.answers == {"big": ["big:20-25"], "other": ["other:0-5"]}


def test_a_failed_unfinished_slice_is_not_taken_up_twice() -> None:
    house = make(batch_rows=40, batch_seconds=20 * PER_ROW)
    big = house.add("big", 50, deadline=1.0)
    house.finish(house.next())
    house.scheduler.lanes.limits = Limits(batch_seconds=10.0, batch_rows=40, lead=0.01)
    assert big.done == 20
    house.add("other", 5, deadline=9.0)
    batch = house.next()
    assert sorted(parts(batch)) == [("big", 20, 50), ("other", 0, 5)]
    house.scheduler.failed(batch, Fault.INFERENCE)
    seen = []
    while not house.scheduler.idle:
        batch = house.next()
        seen += parts(batch)
        house.finish(batch)
    assert sorted(seen) == [("big", 20, 50), ("other", 0, 5)]


def test_out_of_memory_halves_the_budget_and_loses_nothing(house: House) -> None:
    for name in ("a", "b"):
        house.add(name, 8)
    batch = house.next()
    assert batch.rows == 16
    house.scheduler.failed(batch, Fault.OUT_OF_MEMORY)
    assert house.budget("m") == 8
    assert house.budget("n") == 20  # what one model's rows take says nothing of another's
    house.finish(house.next())
    house.finish(house.next())
    assert [len(a) for a in house.answers.values()] == [1, 1]


def test_the_budget_recovers_after_many_good_batches(house: House) -> None:
    house.add("a", 16)
    house.scheduler.failed(house.next(), Fault.OUT_OF_MEMORY)
    for i in range(250):
        house.add(f"r{i}", 1)
        house.finish(house.next())
    assert house.budget("m") == 16


def test_one_row_that_does_not_fit_fails_instead_of_looping(house: House) -> None:
    house.add("a", 2)
    for _ in range(3):
        batch = house.scheduler.next_batch(0.0)
        if batch:
            house.scheduler.failed(batch, Fault.OUT_OF_MEMORY)
    assert [type(a) for a in house.answers["a"]] == [OutOfMemory]
    assert house.scheduler.idle


def test_draining_finishes_what_is_there_and_answers_the_rest(house: House) -> None:
    house.add("a", 5)
    house.scheduler.draining = True
    batch = house.next()
    assert batch.trigger == "drain"
    house.add("b", 20)
    house.scheduler.fail_all(Draining())
    house.finish(batch)
    assert [[type(a) for a in answers] for answers in house.answers.values()] == [[Draining]] * 2


def test_a_wrong_number_of_results_answers_nobody(house: House) -> None:
    house.add("a", 5)
    house.add("b", 5)
    with pytest.raises(ValueError, match="1 results for 2"):
        house.scheduler.finished(house.next(), ["only one"], 0.1)
    assert house.answers == {"a": [], "b": []}


def test_bulk_waits_for_what_is_interactive_but_not_for_ever() -> None:
    house = make(batch_seconds=0.25)
    for number in range(10):
        house.add(f"bulk {number}", 20, priority=Priority.BULK)
    turns = []
    for number in range(12):  # a full batch of the interactive class is always there
        house.add(f"single {number}", 20, now=0.2 * number)
        batch = house.next(0.2 * number)
        turns.append(batch.slices[0].job.priority)
        house.finish(batch)
    assert turns[0] is Priority.INTERACTIVE
    assert 2 <= turns.count(Priority.BULK) <= 3


def test_bulk_is_not_handed_over_before_its_time(house: House) -> None:
    house.add("running", 20, priority=Priority.BULK)
    house.add("next", 20, priority=Priority.BULK)
    house.next(0.0)
    assert house.scheduler.next_batch(0.05) is None
    house.add("single", 1)
    assert house.scheduler.next_batch(0.19) is not None
    assert not house.scheduler.waits(Priority.INTERACTIVE)
    assert house.scheduler.waits(Priority.BULK)


def test_a_batch_holds_one_class(house: House) -> None:
    house.add("single", 2)
    house.add("bulk", 2, priority=Priority.BULK)
    assert parts(house.next()) == [("single", 0, 2)]


def test_beside_a_busy_neighbour_batches_do_not_shrink_to_single_rows() -> None:
    house = make(batch_rows=100, batch_seconds=0.25)
    rate = house.scheduler.lanes[0].rates.of("m")
    for rows in (10, 20, 40) * 5:
        rate.observe(rows, 0.03 + 0.005 * rows)
    for rows in (10, 20, 40) * 10:  # the rows of a quarter second would not even be five
        rate.observe(rows, 7 * (0.03 + 0.005 * rows))
    assert house.budget("m") >= 8


def test_an_image_a_little_over_the_budget_is_not_split_unless_memory_is_short() -> None:
    house = make(batch_rows=30, batch_seconds=0.1)
    for rows in (5, 10, 20) * 5:
        house.scheduler.lanes[0].rates.of("m").observe(rows, 0.01 * rows)
    assert house.budget("m") == 10
    house.add("image", 17)
    assert parts(house.next()) == [("image", 0, 17)]
    house = make(batch_rows=12, batch_seconds=0.1)
    for rows in (5, 10, 20) * 5:
        house.scheduler.lanes[0].rates.of("m").observe(rows, 0.01 * rows)
    house.add("image", 17)
    assert parts(house.next()) == [("image", 0, 10)]


def test_bulk_runs_in_shorter_batches_while_somebody_more_urgent_comes_now_and_then() -> None:
    house = make(batch_rows=100, batch_seconds=0.25)
    for rows in (10, 20, 40) * 5:
        house.scheduler.lanes[0].rates.of("m").observe(rows, 0.01 * rows)

    def bulk(now: float) -> int:
        for number in range(40):
            house.add(f"bulk {number}", 1, now=now, deadline=1e3, priority=Priority.BULK)
        batch = house.next(now)
        house.finish(batch)
        return batch.cost

    assert bulk(0.0) == pytest.approx(25, abs=2)
    house.add("single", 10, now=1.0)
    house.finish(house.next(1.0))
    assert bulk(2.0) == pytest.approx(12, abs=2)
    assert bulk(60.0) == pytest.approx(25, abs=2)


def test_a_batch_is_not_smaller_than_its_overhead_is_worth() -> None:
    house = make(batch_rows=100, batch_seconds=0.25)
    for rows in (2, 4, 8, 16) * 5:
        house.scheduler.lanes[0].rates.of("m").observe(rows, 0.1 + 0.01 * rows)
    assert 37 <= house.budget("m") <= 52  # in a quarter second: 15
