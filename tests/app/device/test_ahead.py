"""Messages prepared ahead: in order, one at a time, and none of the errors lost."""

import queue
import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest

from app.device.ahead import ahead, meanwhile


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


@pytest.fixture
def pipe() -> Iterator[tuple["Connection[Any, Any]", "Connection[Any, Any]"]]:
    ours, theirs = Pipe()
    with ours, theirs:
        yield ours, theirs


def test_it_goes_on_until_a_message_comes_and_by_one_part_before_each(
    pipe: tuple["Connection[Any, Any]", "Connection[Any, Any]"],
) -> None:
    ours, theirs = pipe
    done: list[int] = []

    def measuring() -> Iterator[None]:
        for part in range(6):
            done.append(part)
            if part == 2:  # a message comes while nobody asks for anything
                theirs.send("first")
                theirs.send("second")
                theirs.send("third")
                theirs.send("fourth")
            yield
        done.append(6)

    steps = measuring()
    received = []
    for count in (3, 4, 5, 6):
        received.append(meanwhile(steps, ours.poll, ours.recv))
        assert len(done) == count
    theirs.send("fifth")
    assert meanwhile(steps, ours.poll, ours.recv) == "fifth"
    assert done == list(range(7))
    theirs.send("sixth")
    assert meanwhile(steps, ours.poll, ours.recv) == "sixth"
    assert received == ["first", "second", "third", "fourth"]


def test_it_ends_when_nobody_is_there_any_more(
    pipe: tuple["Connection[Any, Any]", "Connection[Any, Any]"],
) -> None:
    ours, theirs = pipe
    theirs.close()
    with pytest.raises(EOFError):
        meanwhile(iter([None] * 9), ours.poll, ours.recv)
