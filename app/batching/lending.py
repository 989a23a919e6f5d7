"""Workers that share a CPU lend each other their cores: those that compute have all of them, as
long as that makes them faster. No clock, no I/O.
"""

from dataclasses import dataclass
from typing import Self

# Batches that are computed on their worker's own cores after one that others' cores did not make
# faster; the next one finds out again.
_SPARED = 8


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
        """The better of one worker and of so many.

        Args:
            cores: that there are.
            workers: how many there may be.
            alone: seconds of one batch with all cores.
            shared: seconds of as many batches as workers, all at once.
        """
        gain = workers * alone / shared
        if gain < 1:
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
    """Lends as was measured at the start, and pauses while it brings nothing: where another process
    uses the cores, threads of one network wait for those that have none, and one thread alone is
    faster.
    """

    def __init__(self, lending: Lending) -> None:
        self.lending = lending
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
        if loan.boost > 1 and 0 < expected < seconds:
            self._spared = _SPARED
            return None
        return seconds * loan.boost
