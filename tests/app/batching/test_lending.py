"""Cores that idle workers lend to the one that computes, under a fake clock."""

import pytest

from app.batching.lending import Lender, Lending, Loan
from app.batching.rate import Rates
from tests.app.batching.test_lanes import house
from tests.app.batching.test_scheduler import House

PER_ROW = 0.02
TWO = Lending(cores=2, workers=2, speedup=1.6, gain=1.25)


def sharing(lending: Lending = TWO) -> House:
    here = house(*[PER_ROW] * lending.workers)
    here.scheduler.lanes.lender = Lender(lending)
    return here


@pytest.mark.parametrize(
    ("cores", "workers", "idle", "loan"),
    [
        (2, 1, 0, Loan(2, 1.0)),
        (4, 2, 0, Loan(2, 1.0)),
        (4, 2, 1, Loan(4, 1.6)),
        (8, 4, 1, Loan(2, 1.0)),
        (8, 4, 2, Loan(4, 1.2)),
        (8, 4, 3, Loan(8, 1.6)),
        (11, 5, 4, Loan(11, 1.6)),
    ],
)
def test_those_that_compute_have_all_cores(cores: int, workers: int, idle: int, loan: Loan) -> None:
    found = Lending(cores, workers, 1.6, 1.0).loan(idle)
    assert found.threads == loan.threads
    assert found.boost == pytest.approx(loan.boost)


@pytest.mark.parametrize(
    ("alone", "shared", "chosen"),
    [
        (0.6, 1.0, Lending(2, 2, speedup=1 / 0.6, gain=1.2)),  # threads wait for each other
        (0.5, 1.0, Lending(2, 2, speedup=2.0, gain=1.0)),
        (0.45, 1.0, Lending(2, 2, speedup=1 / 0.45, gain=0.9)),  # others' work costs it more
        (0.4, 1.0, Lending(2, 1, speedup=1.0, gain=0.8)),  # caches are too small for two
        (1.2, 1.0, Lending(2, 2, speedup=1.0, gain=2.4)),  # threads are of no use at all
    ],
)
def test_several_workers_are_chosen_where_they_are_faster_together(
    alone: float, shared: float, chosen: Lending
) -> None:
    found = Lending.chosen(2, 2, alone, shared)
    assert found.workers == chosen.workers
    assert (found.speedup, found.gain) == pytest.approx((chosen.speedup, chosen.gain))


def test_an_image_alone_is_computed_on_all_cores_and_expected_the_sooner() -> None:
    here = sharing()
    here.add("a", 5)
    batch = here.next()
    assert batch.loan.threads == 2
    assert batch.expected == pytest.approx(5 * PER_ROW / 1.6)


def test_images_that_share_the_cores_have_their_own_each() -> None:
    here = sharing()
    here.add("a", 10)
    here.add("b", 10)
    assert [here.next().loan for _ in range(2)] == [Loan(1), Loan(1)]


def test_who_comes_while_another_one_computes_has_its_own_core_alone() -> None:
    here = sharing()
    here.add("a", 10)
    assert here.next().loan.threads == 2
    here.add("b", 10)
    assert here.next().loan == Loan(1)


def test_what_is_learned_is_the_speed_of_a_worker_among_others() -> None:
    here = sharing()
    for number in range(30):
        here.add(str(number), 5)
        batch = here.next()
        here.scheduler.finished(batch, ["done"], 5 * PER_ROW / 1.6)
    rate = here.scheduler.lanes[batch.lane].rates.of("m")
    assert rate.seconds(5) == pytest.approx(5 * PER_ROW, rel=0.01)


def _alone(here: House, name: str, beside_a_neighbour: bool) -> Loan:
    """One image alone; beside a neighbour threads of one network wait for those without a core."""
    here.add(name, 5)
    batch = here.next()
    is_lent = batch.loan.boost > 1
    pace = (2.0 if beside_a_neighbour else 1 / 1.6) if is_lent else 1.0
    here.scheduler.finished(batch, ["done"], 5 * PER_ROW * pace)
    return batch.loan


def test_cores_that_make_nothing_faster_are_not_lent_for_a_while() -> None:
    here = sharing()
    threads = [_alone(here, str(n), beside_a_neighbour=True).threads for n in range(38)]
    tried = [number for number, each in enumerate(threads) if each == 2]
    assert tried == [0, 2, 5, 10, 19, 28, 37]  # each time one finds out


def test_they_are_lent_again_once_that_helps() -> None:
    here = sharing()
    for name in "abc":  # lent, spared, lent
        _alone(here, name, beside_a_neighbour=True)
    after = [_alone(here, str(n), beside_a_neighbour=False).threads for n in range(6)]
    assert after == [1, 1, 2, 2, 2, 2]
    again = [_alone(here, str(n), beside_a_neighbour=True).threads for n in range(6, 10)]
    assert again == [2, 1, 2, 1]  # as if for the first time


def test_a_loan_that_brought_nothing_is_not_reckoned_with() -> None:
    here = sharing()
    for number in range(40):
        _alone(here, str(number), beside_a_neighbour=True)
    for lane in here.scheduler.lanes:
        assert lane.rates.of("m").seconds(5) == pytest.approx(5 * PER_ROW)


def test_a_machine_that_is_slower_by_itself_still_gains_by_lent_cores() -> None:
    here = sharing()
    for number in range(30):
        here.add(str(number), 5)
        batch = here.next()
        here.scheduler.finished(batch, ["done"], 1.5 * 5 * PER_ROW / batch.loan.boost)
        assert batch.loan.threads == 2


def test_a_batch_that_is_slow_on_its_own_cores_says_nothing_of_lent_ones() -> None:
    here = sharing()
    here.add("a", 10)
    here.add("b", 10)
    batches = [here.next(), here.next()]
    for batch in batches:
        assert batch.loan.threads == 1
        here.scheduler.finished(batch, ["done"], 3 * batch.cost * PER_ROW)
    assert _alone(here, "d", beside_a_neighbour=False).threads == 2


def test_without_a_measurement_workers_compute_as_they_are_set() -> None:
    here = house(PER_ROW, PER_ROW)
    here.add("a", 5)
    assert here.next().loan == Loan()


def test_a_worker_that_comes_later_is_handed_batches_once_it_is_up() -> None:
    here = house(PER_ROW)
    rates = Rates()
    rates.of("m").observe(10, 10 * PER_ROW)
    lane = here.scheduler.grow(rates)
    here.scheduler.lanes.lender = Lender(TWO)
    for name in "abc":
        here.add(name, 20)
    assert [here.next().lane, here.next().lane] == [0, 0]
    assert here.scheduler.next_batch(0.0) is None
    lane.up = lane.well = True
    assert here.next().lane == lane.number == 1
