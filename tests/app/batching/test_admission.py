from collections.abc import Mapping

import pytest

from app.batching.admission import Admission, Ceilings, Load, State
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
        admission.admit("m", Load(1, 1), deadline=10.0)


def test_what_was_admitted_counts_until_it_is_released(admission: Admission) -> None:
    ticket = admission.admit("m", Load(10, 100), deadline=10.0)
    other = admission.admit("slow", Load(5, 50), deadline=10.0)
    assert (admission.cost, admission.bytes) == (15, 150)
    part = ticket.part(Load(4, 40))
    assert (admission.cost, admission.bytes) == (15, 150)
    part.release()
    part.release()
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
        admission.admit("m", Load(cost, bytes_), deadline=1e9)


@pytest.mark.parametrize(("cost", "bytes_"), [(60, 1), (1, 600)], ids=["rows", "bytes"])
def test_a_reached_ceiling_refuses_with_the_time_to_wait(
    admission: Admission, cost: int, bytes_: int
) -> None:
    admission.admit("m", Load(60, 600), deadline=1e9)
    with pytest.raises(Overloaded) as refusal:
        admission.admit("m", Load(cost, bytes_), deadline=1e9)
    assert refusal.value.retry_after == 1  # 60 rows at 10 ms, in whole seconds


def test_the_ceiling_and_its_time_to_wait_count_every_model(admission: Admission) -> None:
    admission.admit("m", Load(50, 1), deadline=1e9)
    admission.admit("slow", Load(40, 1), deadline=1e9)
    with pytest.raises(Overloaded) as refusal:
        admission.admit("m", Load(11, 1), deadline=1e9)
    assert refusal.value.retry_after == 5  # 50 rows at 10 ms, 40 at 100 ms


def test_a_request_that_would_be_late_is_refused_at_once(admission: Admission) -> None:
    admission.admit("m", Load(50, 1), deadline=10.0)
    with pytest.raises(Overloaded):
        admission.admit("m", Load(10, 1), deadline=0.55)
    admission.admit("m", Load(10, 1), deadline=0.65)


def test_what_waits_for_a_slower_model_counts_at_that_model_s_rate(admission: Admission) -> None:
    admission.admit("slow", Load(10, 1), deadline=10.0)  # one second
    with pytest.raises(Overloaded):
        admission.admit("m", Load(10, 1), deadline=1.05)
    admission.admit("m", Load(10, 1), deadline=1.15)
    with pytest.raises(Overloaded) as refusal:
        admission.admit("slow", Load(30, 1), deadline=2.0)
    assert refusal.value.retry_after == 3  # done after 4.1 seconds, due after 2


def test_a_lone_request_is_tried_even_if_it_looks_late(admission: Admission) -> None:
    assert admission.admit("m", Load(90, 1), deadline=0.1).load == Load(90, 1)


def test_a_ticket_gives_no_more_back_than_it_holds(admission: Admission) -> None:
    ticket = admission.admit("m", Load(10, 100), deadline=10.0)
    part = ticket.part(Load(6, 60))
    ticket.release()
    ticket.release()
    assert (admission.cost, admission.bytes) == (6, 60)
    part.release()
    assert (admission.cost, admission.bytes) == (0, 0)
    with pytest.raises(ValueError, match="more was given back"):
        admission.give_back("m", Load(1, 1))


def test_decoding_counts_where_it_takes_longer_than_computing() -> None:
    admission = Admission(Ceilings(rows=100, bytes=1000), seconds, lambda: 0.0, decoders=2)
    admission.state = State.READY
    first = admission.admit("m", Load(10, 1, decode_seconds=4.0), deadline=10.0)
    assert admission.expected_seconds() == 2.0  # two decoders
    with pytest.raises(Overloaded) as refusal:
        admission.admit("m", Load(1, 1, decode_seconds=2.0), deadline=1.0)
    assert refusal.value.retry_after == 2
    first.decoded()
    first.decoded()
    assert admission.expected_seconds() == pytest.approx(0.1)  # its rows are not computed yet
    admission.admit("m", Load(1, 1, decode_seconds=1.0), deadline=1.0)
    first.release()
    assert admission.cost == 1


def test_prompts_take_their_time_of_the_device_beside_the_rows(admission: Admission) -> None:
    first = admission.admit("m", Load(10, 1, prompt_seconds=2.0), deadline=10.0)
    assert admission.expected_seconds() == pytest.approx(2.1)
    with pytest.raises(Overloaded) as refusal:
        admission.admit("m", Load(10, 1, prompt_seconds=1.0), deadline=2.5)
    assert refusal.value.retry_after == 1  # done after 3.2 seconds
    admission.admit("m", Load(10, 1), deadline=2.5).release()
    first.decoded()
    assert admission.expected_seconds() == pytest.approx(2.1)
    first.release()
    assert admission.expected_seconds() == 0.0
