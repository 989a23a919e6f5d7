"""Workers that share a CPU lend each other their cores: one that computes while others have nothing
to do computes with theirs too.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Loan:
    """What a batch is computed with: ``threads`` (None: as many as the worker has), by which it is
    over in 1 / ``boost`` of the time.
    """

    threads: int | None = None
    boost: float = 1.0


@dataclass(frozen=True, slots=True)
class Lending:
    """``threads`` of each of so many ``workers``, as was measured to be best.

    Attributes:
        speedup: of one that has all of the threads, over one with its own while all compute.
        gain: of all of them together, over one that has all of the threads.
    """

    threads: int
    workers: int
    speedup: float
    gain: float

    def loan(self, idle: int) -> Loan:
        """For a batch beside so many workers that have nothing to do."""
        part = min(1.0, idle / (self.workers - 1)) if self.workers > 1 else 0.0
        return Loan(self.threads * (1 + idle), 1 + part * (self.speedup - 1))
