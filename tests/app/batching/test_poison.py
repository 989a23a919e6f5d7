"""What a worker that ends under a batch costs those who are in it: nobody but the culprit."""

import pytest

from app.batching.errors import DeadlineExceeded, Draining, InferenceFailed, Quarantined
from app.batching.jobs import Batch, Fault, Job
from tests.app.batching.test_scheduler import House, make, parts


@pytest.fixture
def house() -> House:
    return make(batch_rows=64)


def names(batch: Batch) -> list[str]:
    return [name for name, _, _ in parts(batch)]


def work(house: House, poison: set[str]) -> int:
    """Computes all that waits, two batches at the device at a time; returns how often it dies."""
    kills = 0
    out: list[Batch] = []
    while not house.scheduler.idle:
        while batch := house.scheduler.next_batch(0.0):
            out.append(batch)
        if poison & set(names(out[0])):
            kills += 1
            for batch in out:
                house.scheduler.failed(batch, Fault.WORKER_DIED)
            out = []
        else:
            house.finish(out.pop(0))
    return kills


@pytest.mark.parametrize("rows", [1, 10, 100])
@pytest.mark.parametrize("place", [0, 30, 60])
def test_one_poison_image_among_60_kills_twice_and_takes_nobody_with_it(
    house: House, rows: int, place: int
) -> None:
    for i in range(61):
        house.add("poison" if i == place else f"{i}", rows, deadline=10.0 + i / 100)
    assert work(house, {"poison"}) == 2
    assert [type(answer) for answer in house.answers.pop("poison")] == [Quarantined]
    for name, answers in house.answers.items():
        (answer,) = answers
        assert answer.startswith(f"{name}:")


def test_three_poison_images_in_one_batch_cost_four_kills(house: House) -> None:
    for i in range(40):
        house.add(f"{i}", 1)
    assert work(house, {"3", "17", "29"}) == 4
    refused = {n for n, (answer,) in house.answers.items() if isinstance(answer, Quarantined)}
    assert refused == {"3", "17", "29"}


def test_one_kill_from_outside_loses_nothing_and_accuses_nobody_in_the_end(house: House) -> None:
    jobs = [house.add(f"{i}", 1) for i in range(30)]
    house.scheduler.failed(house.next(), Fault.WORKER_DIED)
    assert all(job.suspect for job in jobs)
    assert work(house, set()) == 0
    assert {len(answers) for answers in house.answers.values()} == {1}
    assert not any(job.suspect for job in jobs)


@pytest.mark.parametrize("first_to_fail", [0, 1])
def test_a_batch_that_only_waited_at_the_device_is_under_no_suspicion(
    house: House, first_to_fail: int
) -> None:
    ran, waited = house.add("ran", 64), house.add("waited", 64)
    batches = [house.next(), house.next()]
    for batch in (batches[first_to_fail], batches[1 - first_to_fail]):
        house.scheduler.failed(batch, Fault.WORKER_DIED)
    assert (ran.crashes, waited.crashes) == (1, 0)
    assert house.answers == {"ran": [], "waited": []}


def test_what_a_dead_worker_never_got_is_under_no_suspicion(house: House) -> None:
    job = house.add("a", 1)
    house.scheduler.failed(house.next(), Fault.NOT_RUN)
    assert job.crashes == 0
    assert names(house.next()) == ["a"]


def test_suspects_run_one_by_one_behind_those_that_are_due_a_little_later(house: House) -> None:
    for name in "ab":
        house.add(name, 1, deadline=5.0)
    house.scheduler.failed(house.next(), Fault.WORKER_DIED)
    house.add("soon", 1, deadline=6.0)
    house.add("also soon", 1, deadline=6.0)
    house.add("later", 1, deadline=8.0)
    batches = []
    while not house.scheduler.idle:
        batches.append(house.next())
        house.finish(batches[-1])
    assert [names(batch) for batch in batches] == [["soon", "also soon", "later"], ["a"], ["b"]]


def test_suspects_are_not_put_off_for_ever(house: House) -> None:
    house.add("suspect", 1, deadline=5.0)
    house.scheduler.failed(house.next(), Fault.WORKER_DIED)
    for i in range(10):
        house.add(f"{i}", 1, deadline=7.5 + i)
    assert names(house.next()) == ["suspect"]


def test_an_image_known_from_earlier_runs_alone_and_is_refused_after_one_more_kill(
    house: House,
) -> None:
    heard: list[int] = []
    answers: list[object] = []
    known = Job("m", 1, 5.0, "known", answers.append, crashes=1, on_crashes=heard.append)
    house.scheduler.add(known, 0.0)
    house.add("other", 1, deadline=6.5)
    first, second = house.next(), house.next(now=4.0)
    assert (names(first), names(second)) == (["other"], ["known"])
    house.finish(first)
    house.scheduler.failed(second, Fault.WORKER_DIED)
    assert heard == [2]
    assert [type(answer) for answer in answers] == [Quarantined]


def test_who_hung_up_is_counted_all_the_same(house: House) -> None:
    heard: list[int] = []
    job = house.add("gone", 1)
    job.on_crashes = heard.append
    batch = house.next()
    house.scheduler.cancel(job)
    house.scheduler.failed(batch, Fault.WORKER_DIED)
    assert heard == [1]
    assert house.scheduler.idle


def test_a_score_clears_a_suspect_and_an_error_of_its_own_does_not_quarantine_it(
    house: House,
) -> None:
    heard: list[int] = []
    for name in "ab":
        house.add(name, 1).on_crashes = heard.append
    house.scheduler.failed(house.next(), Fault.WORKER_DIED)
    house.finish(house.next())
    house.scheduler.failed(house.next(), Fault.INFERENCE)
    assert heard == [1, 1, 0]
    assert house.answers["a"] == ["a:0-1"]
    assert [type(answer) for answer in house.answers["b"]] == [InferenceFailed]


def test_at_the_end_of_the_drain_a_suspect_is_not_sent_to_another_instance(house: House) -> None:
    house.add("suspect", 1)
    house.scheduler.failed(house.next(), Fault.WORKER_DIED)
    house.add("other", 1)
    house.scheduler.fail_all(Draining())
    answered = {name: [type(a) for a in answers] for name, answers in house.answers.items()}
    assert answered == {"suspect": [DeadlineExceeded], "other": [Draining]}


def test_a_suspect_keeps_its_deadline(house: House) -> None:
    house.add("late", 1, deadline=5.0)
    house.scheduler.failed(house.next(), Fault.WORKER_DIED)
    assert house.scheduler.next_batch(5.0) is None
    assert [type(answer) for answer in house.answers["late"]] == [DeadlineExceeded]
