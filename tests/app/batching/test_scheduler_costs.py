"""Rows of unlike shape, cost and speed, in the scheduler."""

import random
from typing import Any

import pytest

from app.batching.errors import OutOfMemory
from app.batching.jobs import Batch, Fault
from tests.app.batching.test_scheduler import PER_ROW, House, make, parts

SQUARE, WIDE = (224, 224), (224, 448)


@pytest.fixture
def house() -> House:
    return make()


def names(batch: Batch) -> list[str]:
    return [name for name, _, _ in parts(batch)]


def test_rows_of_unlike_shape_never_share_a_batch(house: House) -> None:
    house.add("a", 1, shape=SQUARE)
    house.add("b", 1, shape=WIDE, row_cost=2)
    house.add("c", 1, shape=SQUARE)
    first = house.next()
    assert names(first) == ["a", "c"]
    house.finish(first)
    assert names(house.next()) == ["b"]


def test_models_that_share_a_shape_share_no_batch(house: House) -> None:
    house.add("a", 1, shape=SQUARE, model="m")
    house.add("b", 1, shape=SQUARE, model="n")
    batch = house.next()
    assert names(batch) == ["a"]
    assert batch.model == "m"


def test_a_batch_is_packed_by_cost(house: House) -> None:
    for name in "abc":
        house.add(name, 2, shape=WIDE, row_cost=4)
    batch = house.next()  # of 20
    assert names(batch) == ["a", "b"]
    assert (batch.rows, batch.cost) == (4, 16)


def test_a_split_keeps_within_the_budget(house: House) -> None:
    house.add("big", 7, shape=WIDE, row_cost=6)
    seen = []
    while not house.scheduler.idle:
        batch = house.next()
        assert batch.cost <= 20
        seen += parts(batch)
        house.finish(batch)
    assert seen == [("big", 0, 3), ("big", 3, 6), ("big", 6, 7)]
    assert house.answers["big"] == ["big:6-7"]


@pytest.mark.parametrize("rows", [1, 3])
def test_a_row_over_the_budget_runs_all_the_same_and_alone(house: House, rows: int) -> None:
    house.add("huge", rows, deadline=5.0, shape=WIDE, row_cost=50)
    house.add("other", 1, shape=WIDE, row_cost=50)
    batches = []
    while not house.scheduler.idle:
        batches.append(house.next())
        house.finish(batches[-1])
    assert [batch.rows for batch in batches] == [1] * (rows + 1)
    assert house.answers["huge"] == [f"huge:{rows - 1}-{rows}"]
    assert house.answers["other"] == ["other:0-1"]


def test_what_waits_is_counted_by_cost(house: House) -> None:
    house.add("a", 5, shape=WIDE, row_cost=3)
    house.next(now=0.0)  # 15 rows' worth: expected to end at 0.15
    house.add("b", 3, shape=WIDE, row_cost=3)
    assert house.scheduler.next_batch(0.05) is None
    assert house.scheduler.wake_at(0.05) == pytest.approx(0.14)
    house.add("c", 4, shape=WIDE, row_cost=3)  # with b 21 of 20
    assert house.next(now=0.06).trigger == "full"


def test_what_cannot_run_together_makes_no_full_batch(house: House) -> None:
    house.add("a", 10)
    house.next(now=0.0)
    house.add("b", 5, deadline=5.0, shape=SQUARE)
    house.add("c", 15, shape=WIDE)
    house.add("d", 15, shape=SQUARE, model="n")
    assert house.scheduler.next_batch(0.01) is None


def test_a_batch_is_expected_to_take_what_its_model_takes(house: House) -> None:
    house.scheduler.lanes[0].rates.of("slow").observe(10, 10 * 5 * PER_ROW)
    house.add("a", 10, model="slow")
    house.next(now=0.0)
    house.add("b", 1, model="m")
    assert house.scheduler.wake_at(0.0) == pytest.approx(0.49)


def test_a_measurement_counts_for_its_own_model_and_by_cost(house: House) -> None:
    house.add("a", 2, model="new", shape=WIDE, row_cost=10)
    house.scheduler.finished(house.next(), ["scored"], 4.0)
    assert house.scheduler.lanes[0].rates.of("new").seconds(5) == pytest.approx(1.0)
    assert house.scheduler.lanes[0].rates.of("m").seconds(5) == pytest.approx(5 * PER_ROW)


def test_the_advantage_of_small_requests_is_measured_in_their_models_time() -> None:
    house = make(batch_rows=200)
    house.scheduler.lanes[0].rates.of("slow").observe(10, 10.0)
    house.add("few rows of a slow model", 5, deadline=5.0, model="slow")
    house.add("many of a fast one", 50, deadline=5.3, model="m")  # penalties 1.0 and 0.5
    assert names(house.next()) == ["many of a fast one"]


def test_work_is_expected_to_take_what_full_batches_of_its_model_take(house: House) -> None:
    house.scheduler.lanes[0].rates.of("slow").observe(10, 10 * 5 * PER_ROW)
    assert house.scheduler.work_seconds("m", 30) == pytest.approx(30 * PER_ROW)
    assert house.scheduler.work_seconds("slow", 10) == pytest.approx(10 * 5 * PER_ROW)
    assert house.scheduler.work_seconds("unknown", 10) == 0.0


def test_what_comes_beside_the_rows_is_part_of_what_is_expected(house: House) -> None:
    job = house.add("a", 10)
    job.beside = 2.0
    assert house.next().expected == pytest.approx(10 * PER_ROW + 2.0)


def test_out_of_memory_with_one_row_is_final_however_much_it_costs(house: House) -> None:
    house.add("huge", 1, shape=WIDE, row_cost=500)
    house.scheduler.failed(house.next(), Fault.OUT_OF_MEMORY)
    assert [type(answer) for answer in house.answers["huge"]] == [OutOfMemory]
    assert house.scheduler.idle
    assert house.budget("m") == 20


def test_out_of_memory_goes_down_to_single_rows_and_ends(house: House) -> None:
    for name in "ab":
        house.add(name, 1, shape=WIDE, row_cost=9)
    batches = 0
    while not house.scheduler.idle:
        batch = house.next()
        batches += 1
        if batch.rows > 1:
            house.scheduler.failed(batch, Fault.OUT_OF_MEMORY)
        else:
            house.finish(batch)
    assert batches == 3
    assert house.answers == {"a": ["a:0-1"], "b": ["b:0-1"]}


def test_memory_that_a_retried_part_lacks_never_raises_the_cap(house: House) -> None:
    house.add("a", 20)
    house.scheduler.failed(house.next(), Fault.OUT_OF_MEMORY)
    assert house.budget("m") == 10
    late = Batch(house.next().slices, "idle", 0.0)
    house.scheduler.failed(late, Fault.OUT_OF_MEMORY)
    assert house.budget("m") == 5


def test_unlike_requests_all_get_exactly_one_answer_within_batches_of_one_kind() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        house, now = make(batch_rows=8), 0.0
        running: list[Batch] = []
        for i in range(40):
            cost = rng.choice([1, 3, 20])
            kind: dict[str, Any] = {"model": rng.choice("mn"), "shape": (cost,), "row_cost": cost}
            house.add(f"{i}", rng.randint(1, 12), now + rng.uniform(0.5, 20), now=now, **kind)
            now += rng.uniform(0, 0.1)
            running += [batch for batch in [house.scheduler.next_batch(now)] if batch]
            if running and rng.random() < 0.7:
                house.finish(running.pop(0))
        while not house.scheduler.idle:
            now += 0.05
            if batch := house.scheduler.next_batch(now):
                assert len({s.job.kind for s in batch.slices}) == 1
                assert batch.cost <= 8 or batch.rows == 1
                running.append(batch)
            if running:
                house.finish(running.pop(0))
        assert {len(answers) for answers in house.answers.values()} == {1}
