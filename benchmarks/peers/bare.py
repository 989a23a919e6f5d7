"""The scorer without a server: processes in a loop over the same files, each with so many threads,
and with so many images in a call of the network.

    python -m benchmarks.peers.bare FOLDER [--processes 2] [--threads 1] [--together 1 2 4 8 16]
"""

import argparse
import itertools
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.peers.clients import LONE
from benchmarks.peers.scoring import load, scored
from benchmarks.peers.setups import Setup

TOGETHER = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Loop:
    """Attributes:
    together: images in a call of the network.
    rate: images per second of all processes.
    cpu: seconds of a core per image.
    call: seconds of a call, the median.
    """

    together: int
    rate: float
    cpu: float
    call: float


@dataclass(frozen=True)
class Loops:
    """Attributes:
    qualities: of the first files, each computed on its own.
    precision: in which type the scorer computes, and where.
    """

    loops: list[Loop]
    qualities: list[float]
    precision: str


@dataclass(frozen=True)
class _Share:
    """What one process has done of a loop: from when until when, in how many seconds of a core, and
    what each call took.
    """

    begin: float
    end: float
    cpu: float
    calls: list[float]


@dataclass(frozen=True)
class _Process:
    """One of them, with what they share: the next call of each loop, and where all wait."""

    setup: Setup
    files: Sequence[Path]
    together: Sequence[int]
    coming: Sequence["Synchronized[int]"]
    barrier: Barrier
    sent: "SimpleQueue[tuple[list[_Share], list[float], str]]"

    def run(self) -> None:
        scorer = load(self.setup)
        found = [scored(scorer, [file.read_bytes()])[0] for file in self.files[:LONE]]
        shares = []
        for count, coming in zip(self.together, self.coming, strict=True):
            scored(scorer, self._uploads(0, count))
            self.barrier.wait()
            begin, cpu, calls = time.monotonic(), time.process_time(), []
            for number in self._turns(count, coming):
                start = time.perf_counter()
                scored(scorer, self._uploads(number, count))
                calls.append(time.perf_counter() - start)
            shares.append(_Share(begin, time.monotonic(), time.process_time() - cpu, calls))
        self.sent.put((shares, found, scorer.precision))

    def _turns(self, count: int, coming: "Synchronized[int]") -> Iterator[int]:
        """Calls as they are left over, so that no process ends long before another."""
        while True:
            with coming.get_lock():
                number = coming.value
                coming.value += 1
            if number * count >= len(self.files):
                return
            yield number

    def _uploads(self, number: int, count: int) -> list[bytes]:
        first = number * count
        files = itertools.islice(itertools.cycle(self.files), first, first + count)
        return [file.read_bytes() for file in files]


def measure(setup: Setup, files: Sequence[Path], together: Sequence[int] = TOGETHER) -> Loops:
    """A loop for each number of images in a call; images that a last call lacks are the first."""
    context = multiprocessing.get_context("spawn")
    coming = [context.Value("i", 0) for _ in together]
    barrier, sent = context.Barrier(setup.processes), context.SimpleQueue()
    one = _Process(setup, files, together, coming, barrier, sent)
    processes = [context.Process(target=one.run) for _ in range(setup.processes)]
    for process in processes:
        process.start()
    shares, found, precisions = zip(*(sent.get() for _ in processes), strict=True)
    for process in processes:
        process.join()
    loops = [_loop(n, *at_once) for n, *at_once in zip(together, *shares, strict=True)]
    return Loops(loops, found[0], precisions[0])


def _loop(together: int, *shares: _Share) -> Loop:
    calls = [seconds for share in shares for seconds in share.calls]
    images = len(calls) * together
    seconds = max(share.end for share in shares) - min(share.begin for share in shares)
    cpu = sum(share.cpu for share in shares)
    return Loop(together, images / seconds, cpu / images, statistics.median(calls))


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints ``Loops`` as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--together", type=int, nargs="+", default=TOGETHER)
    options = parser.parse_args(arguments)
    setup = Setup(options.processes, options.threads, dtype=options.dtype)
    files = sorted(options.folder.iterdir())
    print(json.dumps(asdict(measure(setup, files, options.together))))


if __name__ == "__main__":
    main()
