"""Processes that use a core, always or for a share of the time as a load generator does."""

import contextlib
import os
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event

from benchmarks.drills.aside import Aside

_SLICE = 0.002


def burn(stop: Event, share: float) -> float:
    """Spins until the event is set; returns the share of one core that it got.

    What it misses while others have the cores it makes up for, as a generator does.
    """
    begin, used = time.monotonic(), time.process_time()
    while not stop.is_set():
        due = share * (time.monotonic() - begin) - (time.process_time() - used)
        if due > 0:
            _spin(min(due, _SLICE))
        else:
            time.sleep(_SLICE)
    return (time.process_time() - used) / (time.monotonic() - begin)


def busy(stop: Event) -> float:
    """A busy loop; returns the share of one core that it got."""
    begin, used = time.monotonic(), time.process_time()
    while not stop.is_set():
        _spin(0.05)
    return (time.process_time() - used) / (time.monotonic() - begin)


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """So many of them, in processes of their own."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(Aside(busy))
        yield


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def _spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
