"""Who comes in: what counts, ceilings, deadlines, and what is given back."""

import contextlib

import pytest

from app.batching.admission import Admission, State
from app.batching.errors import Draining, Loading, Overloaded, TooLarge, Unavailable, WorkerDown
from app.batching.fairness import Priority, Sender
from app.batching.ledger import Ceilings, Load
from app.batching.margin import Margin
from tests.app.batching.known_device import KnownDevice

BULK = Sender("batches", priority=Priority.BULK)


@pytest.fixture
def device() -> KnownDevice:
    return KnownDevice({"m": 0.01, "slow": 0.1})


@pytest.fixture
def admission(device: KnownDevice) -> Admission:
    admission = Admission(Ceilings(rows=100, bytes=1000), device, lambda: 0.0)
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
    assert admission.expected_seconds() == pytest.approx(10 * 0.01 + 5 * 0.1)
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
    admission.admit("m", Load(50, 1), deadline=0.5)
    with pytest.raises(Overloaded):
        admission.admit("m", Load(10, 1), deadline=0.55)
    admission.admit("m", Load(10, 1), deadline=2.0)


def test_more_than_half_of_the_time_is_not_spent_on_waiting(admission: Admission) -> None:
    for _ in range(3):
        admission.admit("slow", Load(10, 1), deadline=10.0)
    with pytest.raises(Overloaded) as refusal:
        admission.admit("m", Load(1, 1), deadline=10.0)  # 3 s wait; alone, 2.5 s may
    assert refusal.value.retry_after == 1


def test_only_what_is_due_before_counts(admission: Admission) -> None:
    admission.admit("slow", Load(20, 1), deadline=60.0)  # two seconds
    admission.admit("m", Load(10, 1), deadline=0.2)
    with pytest.raises(Overloaded):
        admission.admit("slow", Load(10, 1), deadline=1.05)


def test_what_would_make_an_admitted_answer_late_is_refused(admission: Admission) -> None:
    admission.admit("slow", Load(10, 1), deadline=1.05)
    with pytest.raises(Overloaded):
        admission.admit("m", Load(10, 1), deadline=1.0)
    admission.admit("m", Load(4, 1), deadline=1.0)


def test_what_is_late_in_any_case_refuses_nobody(admission: Admission) -> None:
    admission.admit("slow", Load(20, 1), deadline=1.0)  # takes two seconds, alone
    admission.admit("m", Load(10, 1), deadline=0.9)
    assert admission.cost == 30


def test_a_lone_request_is_tried_even_if_it_looks_late(admission: Admission) -> None:
    assert admission.admit("m", Load(90, 1), deadline=0.1).load == Load(90, 1)


def test_what_is_at_the_device_for_too_long_counts(
    admission: Admission, device: KnownDevice
) -> None:
    admission.admit("m", Load(10, 1), deadline=10.0)
    admission.admit("m", Load(10, 1), deadline=10.0).release()
    device.late = 8.0  # something stands still
    with pytest.raises(Overloaded):
        admission.admit("m", Load(10, 1), deadline=10.0)


def test_answers_that_come_late_shorten_the_queue(device: KnownDevice) -> None:
    now = 0.0
    admission = Admission(Ceilings(rows=1000, bytes=1000), device, lambda: now)
    admission.state = State.READY

    def admitted() -> int:
        tickets = []
        try:
            while True:
                tickets.append(admission.admit("slow", Load(1, 1), deadline=now + 10.0))
        except Overloaded:
            return len(tickets)
        finally:
            for ticket in tickets:
                ticket.release()

    before = admitted()
    assert 20 <= before <= 30
    for _ in range(100):
        now = 0.0
        ticket = admission.admit("slow", Load(10, 1), deadline=100.0)
        now = 2.0  # twice as long as expected
        ticket.release()
        admission.answered(ticket)
    assert admitted() < 0.7 * before


def test_a_ticket_gives_no_more_back_than_it_holds(admission: Admission) -> None:
    whole = admission.promise("m", Load(10, 100), 10.0, BULK)
    assert (admission.cost, admission.bytes) == (10, 0)  # nothing is decoded yet
    part = whole.part(Load(6, 60))
    part.hold()
    part.hold()
    assert (admission.cost, admission.bytes) == (10, 60)
    whole.release()
    whole.release()
    assert (admission.cost, admission.bytes) == (6, 60)
    part.release()
    part.release()
    assert (admission.cost, admission.bytes) == (0, 0)
    assert admission.expected_seconds() == 0.0


def test_decoding_counts_where_it_takes_longer_than_computing(device: KnownDevice) -> None:
    admission = Admission(Ceilings(rows=100, bytes=1000), device, lambda: 0.0, decoders=2)
    admission.state = State.READY
    first = admission.admit("m", Load(10, 1, decode_seconds=4.0), deadline=3.0)
    assert admission.expected_seconds() == 2.0  # two decoders
    with pytest.raises(Overloaded) as refusal:
        admission.admit("m", Load(1, 1, decode_seconds=2.0), deadline=3.5)
    assert refusal.value.retry_after == 1
    first.decoded()
    first.decoded()
    assert admission.expected_seconds() == pytest.approx(0.1)  # its rows are not computed yet
    admission.admit("m", Load(1, 1, decode_seconds=1.0), deadline=3.5)
    first.release()
    assert admission.cost == 1


def test_prompts_take_their_time_of_the_device_beside_the_rows(admission: Admission) -> None:
    first = admission.admit("m", Load(10, 1, device_seconds=2.0), deadline=2.5)
    assert admission.expected_seconds() == pytest.approx(2.1)
    with pytest.raises(Overloaded):
        admission.admit("m", Load(10, 1), deadline=8.0)
    first.decoded()
    assert admission.expected_seconds() == pytest.approx(2.1)
    first.release()
    assert admission.expected_seconds() == 0.0


def test_at_the_door_a_request_counts_as_the_mean_one_for_a_second(device: KnownDevice) -> None:
    now = 0.0
    admission = Admission(Ceilings(rows=100, bytes=1000), device, lambda: now)
    admission.state = State.READY
    for _ in range(100):  # each takes a second
        ticket = admission.admit("slow", Load(10, 1), deadline=60.0)
        ticket.release()
        admission.answered(ticket)

    def let_in() -> int:
        count = 0
        try:
            while admission.at_the_door(now + 10.0, Sender(), single=True):
                count += 1
        except Overloaded:
            return count
        return count

    assert let_in() == 3
    assert let_in() == 0
    now = 1.5  # no body came
    assert let_in() == 3


class UnlikeWorkers(KnownDevice):
    """Two, of which the fastest alone would take .75 of what both together take twice."""

    @property
    def workers(self) -> int:
        return 2

    def alone_seconds(self, model: str, cost: int) -> float:
        return 0.75 * 2 * self.work_seconds(model, cost)


def test_of_unlike_workers_a_place_counts_as_much_as_the_image_that_follows() -> None:
    device = UnlikeWorkers({"slow": 0.1})
    admission = Admission(Ceilings(rows=100, bytes=1000), device, lambda: 0.0)
    admission.state = State.READY
    for _ in range(100):
        ticket = admission.admit("slow", Load(10, 1), deadline=60.0)
        as_an_image = admission.expected_seconds()
        ticket.release()
        admission.answered(ticket)
    assert admission.at_the_door(60.0, Sender(), single=True) is not None
    assert admission.expected_seconds() == pytest.approx(as_an_image, rel=1e-3)


def test_a_place_at_the_door_is_given_back_once(admission: Admission) -> None:
    place = admission.at_the_door(10.0, Sender(), single=True)
    assert place is not None
    place.release()
    place.release()
    assert admission.at_the_door(10.0, BULK, single=False) is None
    assert (admission.cost, admission.expected_seconds()) == (0, 0.0)


def test_what_is_at_the_device_runs_to_its_end_though_it_is_due_later(
    admission: Admission, device: KnownDevice
) -> None:
    device.at_device = 0.4
    admission.admit("m", Load(9, 0), deadline=0.5).release()
    device.at_device = 0.6
    with pytest.raises(Overloaded):
        admission.admit("m", Load(9, 0), deadline=0.5)
    device.at_device = 0.0  # it would take longer than that itself, and never less
    admission.admit("m", Load(90, 0), deadline=0.5)


def test_of_half_a_second_a_quarter_is_no_trifle() -> None:
    long, short = Margin(), Margin()
    long.observe(0.2, 0.4, patience=10.0)
    short.observe(0.2, 0.4, patience=0.5)
    assert long.factor == 1.0
    assert short.factor > 1.0


@pytest.mark.parametrize(("waits", "fits"), [(28, True), (36, False)], ids=["a little", "much"])
def test_who_was_let_in_at_the_door_may_find_the_queue_a_little_longer(
    admission: Admission, device: KnownDevice, waits: int, fits: bool
) -> None:
    others = Sender("others")
    before = admission.admit("m", Load(1, 1), 9.0, others)
    device.per_row["m"] = 0.1 * waits  # at the door 2.5 s may wait
    with pytest.raises(Overloaded):
        admission.at_the_door(10.0, others, single=True)
    with contextlib.nullcontext() if fits else pytest.raises(Overloaded):
        admission.admit("slow", Load(1, 1), 10.0, others, let_in=True)
    before.release()


def test_a_place_says_whether_it_was_reckoned_with_until_now(device: KnownDevice) -> None:
    now = 0.0
    admission = Admission(Ceilings(rows=100, bytes=1000), device, lambda: now)
    admission.state = State.READY
    first, second = (admission.at_the_door(10.0, Sender(), single=True) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.release()
    now = 2.0  # its time is over, and the next one at the door notices
    admission.at_the_door(12.0, Sender(), single=True)
    assert not second.release()


def test_the_more_were_refused_the_further_they_are_spread(device: KnownDevice) -> None:
    now = 0.0
    admission = Admission(Ceilings(rows=1000, bytes=1000), device, lambda: now)
    admission.state = State.READY
    crowds = []
    for _ in range(300):  # thirty times a second for ten seconds
        now += 1 / 30
        try:
            admission.admit("slow", Load(1, 1), deadline=now + 10.0)
        except Overloaded as refusal:
            crowds.append(refusal.crowd)
    assert crowds[0] < 0.1  # the first one that finds no room is no crowd
    assert crowds[0] < crowds[20] < crowds[-1] <= 10.0
