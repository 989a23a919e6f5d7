"""How a CPU's cores are best shared: by one network with all of them, whose threads wait for each
other after each layer, or by several, which wait for nobody. It is measured. And several calls in
one process that share them (``SideBySide``).
"""

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar

import torch

from model.resources import own_memory, usable_memory
from model.scorer import Scorer
from model.warm_up import IMAGE_ROWS, compute_noise

Given = ParamSpec("Given")
Result = TypeVar("Result")

# Each way is measured so often, by turns; the best counts, since a machine's other work only ever
# takes time. While a service starts that is much: against several both are measured again.
_ROUNDS, _MOST_ROUNDS = 2, 6
MOST_WORKERS = 8


class CoreTimes(NamedTuple):
    """Seconds of one batch with all ``cores`` (``alone``), and of as many as ``workers`` at once,
    each with an equal part of them (``shared``).
    """

    cores: int
    workers: int
    alone: float
    shared: float


def workers_of(cores: int, most: int) -> int:
    """As many as may be, of whole cores each; fewer are left over than each has."""
    threads = -(-cores // max(1, min(most, MOST_WORKERS)))
    return cores // threads


def measuring(
    scorer: Scorer, most: int, enough: float = 1.0, begins: Callable[[], None] = lambda: None
) -> Generator[None, None, CoreTimes]:
    """Computes both ways, on a CPU, with the workers as threads of this process. It takes the time
    of a few images, in parts: between them torch's number of threads is what it was, and whoever
    has something else to compute may do so.

    Args:
        scorer: is warm.
        most: workers, as far as they fit into a third of the memory.
        enough: what several together are to reach of one with all the cores; as long as they do
            not, both are measured again, up to four more times.
        begins: is called before each part, which takes as long as each worker's batch alone on
            all the cores, one after the other, and one more, or somewhat less.

    Yields:
        After each part but the last.

    Raises:
        CheckpointError: what comes out is no number.
    """
    cores = torch.get_num_threads()
    # What this one has for itself, each of them will; most of the memory is for what is decoded.
    workers = workers_of(cores, min(most, usable_memory() // 3 // own_memory()))
    compute = partial(compute_noise, scorer, IMAGE_ROWS)
    if workers == 1:
        return CoreTimes(cores, 1, 1.0, 1.0)
    begin = partial(torch.set_num_threads, cores // workers)
    with ThreadPoolExecutor(workers, initializer=begin) as pool:

        def together() -> None:
            for done in [pool.submit(compute) for _ in range(workers)]:
                done.result()

        begins()
        together()  # begins the threads
        torch.set_num_threads(cores)
        alone, shared = float("inf"), float("inf")
        for number in range(_MOST_ROUNDS):
            yield
            begins()
            shared = min(shared, _seconds(together))
            alone = min(alone, _seconds(compute))
            if number + 1 >= _ROUNDS and workers * alone > enough * shared:
                break
    return CoreTimes(cores, workers, alone, shared)


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def calls_at_once(device: torch.device, dtype: torch.dtype) -> int:
    """How many calls are computed at once: on a CPU in float32 one per core, or of several cores
    each where those are many; else one.

    By a rule, not by measuring: a run that is repeated should write the same scores. And how many
    threads compute a row changes its rounding: in float32 by nothing that shows, in bfloat16 by up
    to .0009 of a score.
    """
    if device.type != "cpu" or dtype != torch.float32:
        return 1
    cores = torch.get_num_threads()
    return workers_of(cores, cores)


class SideBySide:
    """Threads that compute, each with an equal part of the cores that torch uses in the thread that
    makes this; one call alone is computed in the caller's own.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads: ThreadPoolExecutor | None = None
        if count == 1:
            return
        cores = torch.get_num_threads()
        begin = partial(_begin, max(1, cores // count))
        self._threads = ThreadPoolExecutor(count, "network", begin)
        # All of them begin here: torch takes the number that one thread sets for that of the
        # threads to come as well, and it is set back for those.
        together = threading.Barrier(count)
        for begun in [self._threads.submit(together.wait) for _ in range(count)]:
            begun.result()
        torch.set_num_threads(cores)

    @property
    def ahead(self) -> int:
        """How many calls are to be begun while nobody waits for their results: one per thread, and
        the next one.
        """
        return self.count if self._threads else 0

    def submit(
        self, work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Future[Result]:
        """Has the next thread that is free do the work."""
        if self._threads is None:
            return done(work(*args, **kwargs))
        return self._threads.submit(work, *args, **kwargs)

    def close(self) -> None:
        """Waits for what is computed just now; what has not begun never does."""
        if self._threads:
            self._threads.shutdown(wait=True, cancel_futures=True)


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    # A thread takes over what was set last, anywhere, when torch first asks in it; so it asks now.
    torch.get_num_threads()


def done(result: Result) -> Future[Result]:
    """A result that nobody waits for."""
    future: Future[Result] = Future()
    future.set_result(result)
    return future
