"""How a CPU's cores are best shared: by one network with all of them, whose threads wait for each
other after each layer, or by several, which wait for nobody. It is measured.
"""

import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import torch

from model.resources import usable_memory
from model.scorer import Scorer
from model.warm_up import compute_noise

# Crops of an image of 512 x 512 by the bundled models: what is asked for most often.
_ROWS = 5
# Each way is measured so often, by turns; the best counts, since a machine's other work only ever
# takes time.
_ROUNDS = 2
_MOST_WORKERS = 8


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
    threads = -(-cores // max(1, min(most, _MOST_WORKERS)))
    return cores // threads


def measure(scorer: Scorer, most: int) -> CoreTimes:
    """Computes both ways, on a CPU, with up to ``most`` workers as threads of this process; they
    are to fit into a third of the memory. It takes the time of a few images, and leaves torch's
    number of threads as it was.

    Raises:
        CheckpointError: what comes out is no number.
    """
    cores = torch.get_num_threads()
    # What this one takes, each of them will; most of the memory is for what is decoded.
    own = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    workers = workers_of(cores, min(most, usable_memory() // 3 // own))
    compute = partial(compute_noise, scorer, _ROWS)
    if workers == 1:
        return CoreTimes(cores, 1, 1.0, 1.0)
    begin = partial(torch.set_num_threads, cores // workers)
    with ThreadPoolExecutor(workers, initializer=begin) as pool:

        def together() -> None:
            for done in [pool.submit(compute) for _ in range(workers)]:
                done.result()

        together()  # begins the threads
        torch.set_num_threads(cores)
        compute()
        alone, shared = float("inf"), float("inf")
        for _ in range(_ROUNDS):
            shared = min(shared, _seconds(together))
            alone = min(alone, _seconds(compute))
    torch.set_num_threads(cores)
    return CoreTimes(cores, workers, alone, shared)


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
