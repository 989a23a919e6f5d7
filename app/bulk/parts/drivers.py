"""Units on this machine: in this process on one device, in a process for each of several."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from typing import Any

from app.bulk.errors import Stopped
from app.bulk.parts.units import Unit
from app.bulk.parts.worker import Receipt, Setup, Work, Worker

Step = Callable[[bool], None]
# One more than is worked on, so that nobody waits for this process.
_AHEAD = 2
_worker: dict[str, Worker] = {}


def here(units: Iterable[Unit], work: Work, step: Step) -> Iterator[Receipt]:
    """One unit after the other, in this process."""
    worker = Worker(work)
    for unit in units:
        yield worker.work(unit, step)


def over_devices(
    units: Iterator[Unit], work: Work, setups: Sequence[Setup]
) -> Generator[Receipt, None, None]:
    """A process for each set-up, which takes the next unit when it is done with one.

    Raises:
        Stopped: a process died; the parts that are there stay.
    """
    context = multiprocessing.get_context("spawn")
    waiting: Any = context.Queue()
    for setup in setups:
        waiting.put(replace(work, setup=setup))
    pool = ProcessPoolExecutor(len(setups), context, _begin, (waiting,))
    running: set[Future[Receipt]] = set()
    try:
        while True:
            room = _AHEAD * len(setups) - len(running)
            running |= {pool.submit(_work, unit) for unit in islice(units, room)}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise Stopped("a process could not load the model, or died") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(waiting: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker["here"] = Worker(waiting.get())


def _end_with_parent() -> None:
    """A pool's process outlives a parent that is killed, and would keep its device's memory."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(unit: Unit) -> Receipt:
    return _worker["here"].work(unit)
