import pytest

from app.admission import Admission, Ceilings, State
from app.errors import Draining, Loading, Overloaded, TooLarge, Unavailable, WorkerDown

PER_ROW = 0.01


@pytest.fixture
def door() -> Admission:
    door = Admission(Ceilings(rows=100, bytes=1000), lambda rows: rows * PER_ROW, lambda: 0.0)
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
        door.admit(1, 1, deadline=10.0)


def test_what_was_admitted_counts_until_it_is_released(door: Admission) -> None:
    ticket = door.admit(10, 100, deadline=10.0)
    assert (door.rows, door.bytes) == (10, 100)
    ticket.give_back(4, 40)
    assert (door.rows, door.bytes) == (6, 60)
    ticket.release()
    ticket.release()
    assert (door.rows, door.bytes) == (0, 0)


@pytest.mark.parametrize(("rows", "bytes_"), [(101, 1), (1, 1001)], ids=["rows", "bytes"])
def test_what_can_never_fit_is_too_large(door: Admission, rows: int, bytes_: int) -> None:
    with pytest.raises(TooLarge):
        door.admit(rows, bytes_, deadline=1e9)


@pytest.mark.parametrize(("rows", "bytes_"), [(60, 1), (1, 600)], ids=["rows", "bytes"])
def test_a_reached_ceiling_refuses_with_the_time_to_wait(
    door: Admission, rows: int, bytes_: int
) -> None:
    door.admit(60, 600, deadline=1e9)
    with pytest.raises(Overloaded) as refusal:
        door.admit(rows, bytes_, deadline=1e9)
    assert refusal.value.retry_after == 1  # 60 rows at 10 ms, in whole seconds


def test_a_request_that_would_be_late_is_refused_at_the_door(door: Admission) -> None:
    door.admit(50, 1, deadline=10.0)
    with pytest.raises(Overloaded):
        door.admit(10, 1, deadline=0.55)
    door.admit(10, 1, deadline=0.65)


def test_a_lone_request_is_tried_even_if_it_looks_late(door: Admission) -> None:
    assert door.admit(90, 1, deadline=0.1).rows == 90
