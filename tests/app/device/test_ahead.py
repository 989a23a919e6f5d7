"""Messages prepared ahead: in order, one at a time, and none of the errors lost."""

import queue
import threading

import pytest

from app.device.ahead import ahead


def test_the_next_message_is_prepared_while_the_caller_is_at_the_one_before() -> None:
    came: queue.Queue[int] = queue.Queue()
    prepared = threading.Semaphore(0)
    seen: list[int] = []

    def prepare(message: int) -> None:
        seen.append(message)
        prepared.release()

    receive = ahead(came.get, prepare)
    for number in (1, 2, 3):
        came.put(number)
    assert receive() == 1
    assert prepared.acquire(timeout=20)
    assert prepared.acquire(timeout=20)  # the second one, for which nobody has called yet
    assert (receive(), receive()) == (2, 3)
    assert seen == [1, 2, 3]


def test_the_end_of_the_messages_reaches_the_caller_behind_those_that_came_before() -> None:
    came = iter([1, 2])

    def receive_one() -> int:
        try:
            return next(came)
        except StopIteration:
            raise EOFError from None

    receive = ahead(receive_one, lambda _: None)
    assert (receive(), receive()) == (1, 2)
    with pytest.raises(EOFError):
        receive()
