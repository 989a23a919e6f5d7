"""How a CPU's cores are best shared: by one network with all of them, whose threads wait for each
other after each layer, or by several, which wait for nobody. It is measured.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch

from model.scorer import Scorer
from model.warm_up import compute_noise

# Crops of an image of 512 x 512 by the bundled models: what is asked for most often.
_ROWS = 5
# Each way is measured so often, by turns; the best counts, since a machine's other work only ever
# takes time.
_ROUNDS = 2
_MOST_WORKERS = 8


@dataclass(frozen=True, slots=True)
class CoreShare:
    """``workers`` that compute at the same time, with so many ``threads`` each.

    Attributes:
        speedup: of one of them that has all cores, over one with its own while all compute.
        gain: of all of them together, over one with all cores.
    """

    workers: int = 1
    threads: int = 1
    speedup: float = 1.0
    gain: float = 1.0


def measure(scorer: Scorer, most: int) -> CoreShare:
    """The better of one worker, and of up to ``most`` with as many threads together; on a CPU. It
    takes the time of a few images, and leaves torch's number of threads as it was.

    Raises:
        CheckpointError: what comes out is no number.
    """
    cores = torch.get_num_threads()
    workers = min(most, cores, _MOST_WORKERS)
    if workers < 2:
        return CoreShare(threads=cores)
    threads = cores // workers
    compute = partial(compute_noise, scorer, _ROWS)
    begin = partial(torch.set_num_threads, threads)
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
    return decided(workers, threads, alone, shared)


def decided(workers: int, threads: int, alone: float, shared: float) -> CoreShare:
    """Which it is.

    Args:
        workers: how many there may be.
        threads: of each of them.
        alone: seconds of one batch with all cores.
        shared: seconds of as many batches as workers, all at once.
    """
    gain = workers * alone / shared
    if gain < 1:
        return CoreShare(threads=workers * threads, gain=gain)
    return CoreShare(workers, threads, max(1.0, shared / alone), gain)


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
