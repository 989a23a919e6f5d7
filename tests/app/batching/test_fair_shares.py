"""Shares: of senders by their weight, of classes, and of batch calls in the lane."""

import asyncio
import contextlib
from collections import Counter, deque

import pytest

from app.batching.admission import Admission, State
from app.batching.errors import Overloaded
from app.batching.fairness import Priority, Sender, Turns, Use, Uses
from app.batching.lane import Lane
from app.batching.ledger import Ceilings, Load, Ticket
from tests.app.batching.known_device import KnownDevice

ROW = 0.1  # seconds
BULK, INTERACTIVE = Priority.BULK, Priority.INTERACTIVE


def admission_of(device: KnownDevice, rows: int = 1000) -> Admission:
    admission = Admission(Ceilings(rows, 1000), device, lambda: 0.0)
    admission.state = State.READY
    return admission


def fill(admission: Admission, sender: Sender, most: int = 1000) -> int:
    """How many rows of a sender come in, one after another."""
    for count in range(most):
        try:
            admission.admit("m", Load(1, 0), 10.0, sender)
        except Overloaded:
            return count
    return most


@pytest.fixture
def device() -> KnownDevice:
    return KnownDevice({"m": ROW})


def test_whoever_is_greedy_leaves_room_for_the_modest(device: KnownDevice) -> None:
    admission = admission_of(device)
    greedy = fill(admission, Sender("greedy"))
    assert greedy * ROW == pytest.approx(2.5, abs=0.2)  # half of half the deadline
    assert fill(admission, Sender("modest"), 10) == 10
    assert fill(admission, Sender("greedy")) == 0


def test_many_senders_together_wait_half_of_the_deadline_at_most(device: KnownDevice) -> None:
    admission = admission_of(device)
    for number in range(20):
        fill(admission, Sender(f"sender {number}"))
    assert admission.expected_seconds() <= 5.0 + 2 * ROW


def test_shares_go_by_weight(device: KnownDevice) -> None:
    admission = admission_of(device)
    senders = [Sender("a", 1.0), Sender("b", 3.0)]
    waiting, served = deque[tuple[str, Ticket]](), Counter[str]()
    for step in range(500):  # both send more than they get, and one row is computed at a time
        for sender in senders:
            with contextlib.suppress(Overloaded):
                ticket = admission.admit("m", Load(1, 0), 10.0, sender)
                waiting.append((sender.owner, ticket))
        owner, ticket = waiting.popleft()
        ticket.release()
        served[owner] += step >= 250
    assert served["b"] / served["a"] == pytest.approx(3.0, abs=0.5)


def test_bulk_does_not_count_against_what_is_interactive(device: KnownDevice) -> None:
    admission = admission_of(device)
    admission.promise("m", Load(300, 0), 70.0, Sender("batch", priority=BULK))
    device.waiting = {BULK}
    assert fill(admission, Sender("single"), 10) == 10


def test_while_bulk_waits_a_quarter_of_the_device_is_reckoned_with_for_it(
    device: KnownDevice,
) -> None:
    alone = fill(admission_of(device), Sender("single"))
    device.waiting = {BULK}
    assert fill(admission_of(device), Sender("single")) == pytest.approx(0.75 * alone, abs=1)


def test_bulk_reckons_with_what_the_interactive_class_leaves(device: KnownDevice) -> None:
    admission = admission_of(device)
    sender = Sender("batch", priority=BULK)
    assert admission.alone("m", Load(10, 0), sender) == pytest.approx(1.0)
    device.use = 0.5
    assert admission.alone("m", Load(10, 0), sender) == pytest.approx(2.0)
    device.use = 2.0
    assert admission.alone("m", Load(10, 0), sender) == pytest.approx(4.0)


def test_bulk_has_a_quarter_of_the_time_when_both_wait() -> None:
    turns, given = Turns(0.25), Counter[Priority]()
    for _ in range(1000):
        turn = BULK if turns.is_bulk else INTERACTIVE
        given[turn] += 1
        turns.took(turn, 0.2)
    assert given[BULK] / given.total() == pytest.approx(0.25, abs=0.01)


def test_the_interactive_class_goes_first_when_bulk_is_owed_nothing() -> None:
    turns = Turns(0.25)
    assert not turns.is_bulk
    turns.took(INTERACTIVE, 0.5)
    assert not turns.is_bulk
    turns.took(INTERACTIVE, 0.5)
    assert turns.is_bulk


def test_use_is_forgotten() -> None:
    use = Use()
    for second in range(60):
        use.add(float(second), 0.5)
    assert use.of(60.0) == pytest.approx(0.5, abs=0.1)
    assert use.of(90.0) < 0.01


class Calls:
    """Images of batch calls before a lane."""

    def __init__(self, most_bytes: int = 500, rows: int = 1000) -> None:
        device = KnownDevice({"m": ROW})
        self.admission = admission_of(device, rows)
        self.lane = Lane(self.admission.has_room, lambda ticket: ticket.load.cost / 10, most_bytes)
        self.admission.on_room = self.lane.look
        self.inside: list[Ticket] = []
        self.tasks: list[asyncio.Task[None]] = []

    def send(self, sender: Sender, images: int, load: Load = Load(10, 0)) -> None:  # noqa: B008
        for _ in range(images):
            ticket = self.admission.promise("m", load, 1000.0, sender)
            self.tasks.append(asyncio.create_task(self._enter(ticket)))

    async def _enter(self, ticket: Ticket) -> None:
        await self.lane.enter(ticket)
        self.inside.append(ticket)

    async def settle(self) -> list[Ticket]:
        for _ in range(5):
            await asyncio.sleep(0)
        return self.inside

    def leave(self) -> None:
        ticket = self.inside.pop(0)
        self.lane.leave(ticket)
        ticket.release()


def bulk(owner: str, weight: float = 1.0) -> Sender:
    return Sender(owner, weight, BULK)


def test_a_few_batches_of_images_are_inside() -> None:
    async def test() -> None:
        calls = Calls()
        calls.send(bulk("a"), 8)
        assert len(await calls.settle()) == 3
        assert calls.lane.waiting == 5
        calls.leave()
        assert len(await calls.settle()) == 3
        assert calls.lane.waiting == 4

    asyncio.run(test())


def test_no_more_memory_is_taken_than_may() -> None:
    async def test() -> None:
        calls = Calls(most_bytes=500)
        calls.send(bulk("a"), 8, Load(1, 300))
        assert len(await calls.settle()) == 1
        calls.leave()
        assert len(await calls.settle()) == 1

    asyncio.run(test())


def test_the_lane_keeps_to_the_ceilings_of_the_service_too() -> None:
    async def test() -> None:
        calls = Calls(rows=15)
        single = calls.admission.admit("m", Load(10, 0), 10.0)
        calls.send(bulk("a"), 1)
        assert await calls.settle() == []
        single.release()
        assert len(await calls.settle()) == 1

    asyncio.run(test())


def test_senders_of_batch_calls_have_shares_by_weight() -> None:
    async def test() -> None:
        calls = Calls()
        calls.send(bulk("first"), 40)
        calls.send(bulk("late", 3.0), 40)
        seen = Counter[str]()
        for _ in range(40):
            seen[(await calls.settle())[0].sender.owner] += 1
            calls.leave()
        assert seen["late"] / seen["first"] == pytest.approx(3.0, abs=1.0)
        for task in calls.tasks:
            task.cancel()

    asyncio.run(test())


def test_an_interactive_batch_call_goes_first() -> None:
    async def test() -> None:
        calls = Calls()
        calls.send(bulk("a"), 8)
        await calls.settle()
        calls.send(Sender("b"), 2)
        await calls.settle()
        for _ in range(3):
            calls.leave()
            await calls.settle()
        assert [ticket.sender.owner for ticket in calls.inside] == ["b", "b", "a"]
        for task in calls.tasks:
            task.cancel()

    asyncio.run(test())


def test_who_is_cancelled_leaves_the_lane() -> None:
    async def test() -> None:
        calls = Calls()
        calls.send(bulk("a"), 5)
        await calls.settle()
        for task in calls.tasks[3:]:
            task.cancel()
        await calls.settle()
        assert calls.lane.waiting == 0
        calls.send(bulk("b"), 1)
        calls.leave()
        assert len(await calls.settle()) == 3

    asyncio.run(test())


def test_owners_that_do_not_come_again_are_forgotten() -> None:
    uses = Uses()
    for number in range(5000):
        uses.add(f"owner {number}", number * 1.0, 0.1)
    assert uses.of("owner 1", 5000.0) == 0
    assert uses.of("owner 4999", 4999.0) == pytest.approx(0.02)
    assert len(uses) <= 1000


def test_owners_that_are_all_there_are_all_remembered_and_forgotten_later() -> None:
    uses = Uses()
    for number in range(3000):
        uses.add(f"owner {number}", number * 1e-3, 0.1)
    assert uses.of("owner 0", 3.0) > 0.01
    for number in range(3000):
        uses.add(f"later {number}", 1000.0 + number, 0.1)
    assert len(uses) <= 2000
