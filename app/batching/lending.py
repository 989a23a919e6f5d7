"""Workers that share a CPU lend each other their cores: those that compute have all of them, as
long as that makes them faster. No clock, no I/O.
"""

from dataclasses import dataclass
from typing import Self

# What several workers are to reach of one with all the cores to be preferred. Less than all of it:
# they are measured where nothing else runs, and beside what decodes and answers threads that wait
# for each other lose more than those that do not.
LEAST_GAIN = 0.85
# Most batches that are computed on their worker's own cores after one that others' cores did not
# make faster: one at first, twice as many each time. The next one finds out again.
_MOST_SPARED = 8


@dataclass(frozen=True, slots=True)
class Loan:
    """What a batch is computed with: ``threads`` (None: as many as the worker has), by which it is
    over in 1 / ``boost`` of the time.
    """

    threads: int | None = None
    boost: float = 1.0


@dataclass(frozen=True, slots=True)
class Lending:
    """``cores`` that so many ``workers`` share, as was measured to be best.

    Attributes:
        speedup: of one that has all of the cores, over one with its own while all compute.
        gain: of all of them together, over one that has all of the cores.
    """

    cores: int
    workers: int
    speedup: float
    gain: float

    @classmethod
    def chosen(cls, cores: int, workers: int, alone: float, shared: float) -> Self:
        """One worker, or so many where those are about as fast or faster.

        Args:
            cores: that there are.
            workers: how many there may be.
            alone: seconds of one batch with all cores.
            shared: seconds of as many batches as workers, all at once.
        """
        gain = workers * alone / shared
        if gain < LEAST_GAIN:
            return cls(cores, 1, 1.0, gain)
        return cls(cores, workers, max(1.0, shared / alone), gain)

    @property
    def threads(self) -> int:
        """Of each worker while all compute."""
        return self.cores // self.workers

    def loan(self, idle: int) -> Loan:
        """For a batch beside so many workers that have nothing to do."""
        threads = self.cores // (self.workers - idle)
        lent = (threads - self.threads) / max(1, self.cores - self.threads)
        return Loan(threads, 1 + lent * (self.speedup - 1))


class Lender:
    """Lends as was measured after the start, and pauses while it brings nothing: where another
    process uses the cores, threads of one network wait for those that have none, and one thread
    alone is faster.
    """

    def __init__(self, lending: Lending) -> None:
        self.lending = lending
        self._next = 1  # so many batches are spared after the next one in vain
        self._spared = 0

    def loan(self, idle: int) -> Loan:
        """For the next batch, beside so many workers that have nothing to do."""
        if idle and self._spared:
            self._spared -= 1
            return self.lending.loan(0)
        return self.lending.loan(idle)

    def seconds_without(self, loan: Loan, seconds: float, expected: float) -> float | None:
        """What a batch that took so many ``seconds`` would have taken on its worker's own cores;
        ``expected``: to take there, 0 if that is not known. One that took longer than that has
        gained nothing by others' cores: None, it tells nothing.
        """
        if loan.boost == 1:
            return seconds
        if 0 < expected < seconds:
            self._spared, self._next = self._next, min(2 * self._next, _MOST_SPARED)
            return None
        self._next = 1
        return seconds * loan.boost
