"""Messages that are prepared while the one before is at work, and what is done until they come."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def ahead(receive: Callable[[], T], prepare: Callable[[T], None]) -> Callable[[], T]:
    """``receive``, but that a thread has received and prepared one message ahead. What it raises is
    raised to the caller, and is the last.
    """
    coming: queue.Queue[Future[T]] = queue.Queue(maxsize=1)

    def work() -> None:
        while True:
            future: Future[T] = Future()
            coming.put(future)  # when the one before it is waited for
            try:
                message = receive()
                prepare(message)
            except Exception as error:  # noqa: BLE001 - for the caller
                future.set_exception(error)
                return
            future.set_result(message)

    threading.Thread(target=work, name="ahead", daemon=True).start()
    return lambda: coming.get().result()


def meanwhile(steps: Iterator[None], comes: Callable[[], bool], receive: Callable[[], T]) -> T:
    """The next message. Until it comes the steps go on, and by one in any case."""
    for _ in steps:
        if comes():
            break
    return receive()
