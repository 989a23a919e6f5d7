from collections.abc import Mapping

import pytest

from app.batching.admission import Admission, Ceilings, State
from app.batching.errors import Draining, Loading, Overloaded, TooLarge, Unavailable, WorkerDown

PER_ROW = {"m": 0.01, "slow": 0.1}


def seconds(costs: Mapping[str, int]) -> float:
    return sum(PER_ROW[model] * cost for model, cost in costs.items())


@pytest.fixture
def admission() -> Admission:
    admission = Admission(Ceilings(rows=100, bytes=1000), seconds, lambda: 0.0)
    admission.state = State.READY
    return admission


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (State.LOADING, Loading),
        (State.WORKER_DOWN, WorkerDown),
        (State.DRAINING, Draining),
    ],
    ids=lambda v: getattr(v, "value", ""),
)
def test_a_closed_service_says_why(
    admission: Admission, state: State, error: type[Unavailable]
) -> None:
    admission.state = state
    with pytest.raises(error):
        admission.admit("m", 1, 1, deadline=10.0)


def test_what_was_admitted_counts_until_it_is_released(admission: Admission) -> None:
    ticket = admission.admit("m", 10, 100, deadline=10.0)
    other = admission.admit("slow", 5, 50, deadline=10.0)
    assert (admission.cost, admission.bytes) == (15, 150)
    ticket.give_back(4, 40)
    assert (admission.cost, admission.bytes) == (11, 110)
    assert admission.expected_seconds() == pytest.approx(6 * 0.01 + 5 * 0.1)
    ticket.release()
    ticket.release()
    other.release()
    assert (admission.cost, admission.bytes) == (0, 0)
    assert admission.expected_seconds() == 0.0


@pytest.mark.parametrize(("cost", "bytes_"), [(101, 1), (1, 1001)], ids=["rows", "bytes"])
def test_what_can_never_fit_is_too_large(admission: Admission, cost: int, bytes_: int) -> None:
    with pytest.raises(TooLarge):
        admission.admit("m", cost, bytes_, deadline=1e9)


@pytest.mark.parametrize(("cost", "bytes_"), [(60, 1), (1, 600)], ids=["rows", "bytes"])
def test_a_reached_ceiling_refuses_with_the_time_to_wait(
    admission: Admission, cost: int, bytes_: int
) -> None:
    admission.admit("m", 60, 600, deadline=1e9)
    with pytest.raises(Overloaded) as refusal:
        admission.admit("m", cost, bytes_, deadline=1e9)
    assert refusal.value.retry_after == 1  # 60 rows at 10 ms, in whole seconds


def test_the_ceiling_and_its_time_to_wait_count_every_model(admission: Admission) -> None:
    admission.admit("m", 50, 1, deadline=1e9)
    admission.admit("slow", 40, 1, deadline=1e9)
    with pytest.raises(Overloaded) as refusal:
        admission.admit("m", 11, 1, deadline=1e9)
    assert refusal.value.retry_after == 5  # 50 rows at 10 ms, 40 at 100 ms


def test_a_request_that_would_be_late_is_refused_at_once(admission: Admission) -> None:
    admission.admit("m", 50, 1, deadline=10.0)
    with pytest.raises(Overloaded):
        admission.admit("m", 10, 1, deadline=0.55)
    admission.admit("m", 10, 1, deadline=0.65)


def test_what_waits_for_a_slower_model_counts_at_that_model_s_rate(admission: Admission) -> None:
    admission.admit("slow", 10, 1, deadline=10.0)  # one second
    with pytest.raises(Overloaded):
        admission.admit("m", 10, 1, deadline=1.05)
    admission.admit("m", 10, 1, deadline=1.15)
    with pytest.raises(Overloaded) as refusal:
        admission.admit("slow", 30, 1, deadline=2.0)
    assert refusal.value.retry_after == 3  # done after 4.1 seconds, due after 2


def test_a_lone_request_is_tried_even_if_it_looks_late(admission: Admission) -> None:
    assert admission.admit("m", 90, 1, deadline=0.1).cost == 90
