from collections.abc import Mapping

import pytest

from app.admission import Admission, Ceilings, State
from app.errors import Draining, Loading, Overloaded, TooLarge, Unavailable, WorkerDown

PER_ROW = {"m": 0.01, "slow": 0.1}


def seconds(costs: Mapping[str, int]) -> float:
    return sum(PER_ROW[model] * cost for model, cost in costs.items())


@pytest.fixture
def door() -> Admission:
    door = Admission(Ceilings(rows=100, bytes=1000), seconds, lambda: 0.0)
    door.state = State.READY
    return door


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (State.LOADING, Loading),
        (State.WORKER_DOWN, WorkerDown),
        (State.DRAINING, Draining),
    ],
    ids=lambda v: getattr(v, "value", ""),
)
def test_a_closed_door_says_why(door: Admission, state: State, error: type[Unavailable]) -> None:
    door.state = state
    with pytest.raises(error):
        door.admit("m", 1, 1, deadline=10.0)


def test_what_was_admitted_counts_until_it_is_released(door: Admission) -> None:
    ticket = door.admit("m", 10, 100, deadline=10.0)
    other = door.admit("slow", 5, 50, deadline=10.0)
    assert (door.cost, door.bytes) == (15, 150)
    ticket.give_back(4, 40)
    assert (door.cost, door.bytes) == (11, 110)
    assert door.expected_seconds() == pytest.approx(6 * 0.01 + 5 * 0.1)
    ticket.release()
    ticket.release()
    other.release()
    assert (door.cost, door.bytes) == (0, 0)
    assert door.expected_seconds() == 0.0


@pytest.mark.parametrize(("cost", "bytes_"), [(101, 1), (1, 1001)], ids=["rows", "bytes"])
def test_what_can_never_fit_is_too_large(door: Admission, cost: int, bytes_: int) -> None:
    with pytest.raises(TooLarge):
        door.admit("m", cost, bytes_, deadline=1e9)


@pytest.mark.parametrize(("cost", "bytes_"), [(60, 1), (1, 600)], ids=["rows", "bytes"])
def test_a_reached_ceiling_refuses_with_the_time_to_wait(
    door: Admission, cost: int, bytes_: int
) -> None:
    door.admit("m", 60, 600, deadline=1e9)
    with pytest.raises(Overloaded) as refusal:
        door.admit("m", cost, bytes_, deadline=1e9)
    assert refusal.value.retry_after == 1  # 60 rows at 10 ms, in whole seconds


def test_the_ceiling_and_its_time_to_wait_count_every_model(door: Admission) -> None:
    door.admit("m", 50, 1, deadline=1e9)
    door.admit("slow", 40, 1, deadline=1e9)
    with pytest.raises(Overloaded) as refusal:
        door.admit("m", 11, 1, deadline=1e9)
    assert refusal.value.retry_after == 5  # 50 rows at 10 ms, 40 at 100 ms


def test_a_request_that_would_be_late_is_refused_at_the_door(door: Admission) -> None:
    door.admit("m", 50, 1, deadline=10.0)
    with pytest.raises(Overloaded):
        door.admit("m", 10, 1, deadline=0.55)
    door.admit("m", 10, 1, deadline=0.65)


def test_what_waits_for_a_slower_model_counts_at_that_model_s_rate(door: Admission) -> None:
    door.admit("slow", 10, 1, deadline=10.0)  # one second
    with pytest.raises(Overloaded):
        door.admit("m", 10, 1, deadline=1.05)
    door.admit("m", 10, 1, deadline=1.15)
    with pytest.raises(Overloaded) as refusal:
        door.admit("slow", 30, 1, deadline=2.0)
    assert refusal.value.retry_after == 3  # done after 4.1 seconds, due after 2


def test_a_lone_request_is_tried_even_if_it_looks_late(door: Admission) -> None:
    assert door.admit("m", 90, 1, deadline=0.1).cost == 90
