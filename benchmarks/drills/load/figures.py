"""What a load came to, in the figures of a promise."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.drills.load.generator import BACK, Sent
from benchmarks.drills.load.wire import Exchange

REFUSED = 429
LATE = 504


@dataclass(frozen=True)
class Figures:
    """Of one stream, or of all but those that came once more.

    Attributes:
        exchanges: all of them.
        seconds: that count.
        goodput: images per second that got their scores within the deadline.
        deadline: seconds.
        come_back: what became of those that came again when their Retry-After had passed.
    """

    exchanges: Sequence[Exchange]
    seconds: float
    goodput: float
    deadline: float
    come_back: Sequence[Exchange] = field(default_factory=tuple)

    @classmethod
    def of(
        cls, sent: Sent, stream: str | None = None, *, warm: float = 0.0, deadline: float = 10.0
    ) -> "Figures":
        """The first ``warm`` seconds do not count for the goodput."""
        firsts = [e for e in sent.exchanges if _belongs(e, stream)]
        backs = [e for e in sent.exchanges if _belongs(e, stream, BACK)]
        begin = sent.begin + warm
        seconds = max(1e-9, sent.end - begin)
        in_time = [e for e in firsts if begin <= e.done <= sent.end and e.seconds <= deadline]
        goodput = sum(e.scores for e in in_time) / seconds
        return cls(firsts, seconds, goodput, deadline, backs)

    @property
    def served(self) -> list[Exchange]:
        return [e for e in self.exchanges if e.status == 200]

    @property
    def refused(self) -> list[Exchange]:
        return [e for e in self.exchanges if e.status == REFUSED]

    @property
    def late(self) -> float:
        """The share of what was admitted that was not served in time."""
        served = self.served
        missed = sum(e.status == LATE for e in self.exchanges)
        too_late = sum(e.seconds > self.deadline for e in served)
        return (missed + too_late) / max(1, missed + len(served))

    @property
    def bytes_per_refusal(self) -> float:
        """Bytes of a refused request's body that were sent, on average."""
        return sum(e.body_sent for e in self.refused) / max(1, len(self.refused))

    @property
    def back_served(self) -> float:
        """The share that was served of those that came again when their Retry-After had passed."""
        return sum(e.status == 200 for e in self.come_back) / max(1, len(self.come_back))

    def quantile(self, share: float) -> float:
        """Seconds within which that share of the served ones was, from when they were due."""
        return quantile([e.seconds for e in self.served], share)

    def lag(self, share: float) -> float:
        """How late the generator itself was."""
        return quantile([e.sent - e.due for e in self.exchanges], share)

    def statuses(self) -> str:
        """``200 x 61, 504 deadline x 2``."""
        return statuses(self.exchanges)

    def waits(self) -> str:
        """The values of Retry-After, and how often each came."""
        counts = Counter(e.retry_after for e in self.refused)
        known = sorted((wait, count) for wait, count in counts.items() if wait is not None)
        parts = [f"{wait} s x {count}" for wait, count in known]
        if counts[None]:
            parts.append(f"none x {counts[None]}")
        return ", ".join(parts) or "no refusal"

    def __str__(self) -> str:
        return (
            f"{self.goodput:.1f}/s in time, late {self.late:.1%}, "
            f"p50 {self.quantile(0.5):.2f} s, p99 {self.quantile(0.99):.2f} s; {self.statuses()}"
        )


def quantile(seconds: Sequence[float], share: float) -> float:
    """NaN where there are none."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def statuses(exchanges: Sequence[Exchange]) -> str:
    """``200 x 61, 504 deadline x 2``."""
    names = Counter(
        f"{e.status} {e.code}".strip() if e.status else f"no answer ({e.code})" for e in exchanges
    )
    return ", ".join(f"{name} x {count}" for name, count in sorted(names.items())) or "none"


def cpu_per_refusal(
    calm: Sent, calm_figures: Figures, crowded: Sent, figures: Figures, pid: int
) -> float:
    """Seconds of the process ``pid`` for a refusal: what the crowd took beyond its answers, each at
    the price of the calm ones.
    """
    price = calm.watched.get(pid, 0.0) / max(1, len(calm_figures.served))
    served = [e for e in figures.served if e.done <= crowded.end]
    beyond = crowded.watched.get(pid, 0.0) - price * len(served)
    return beyond / max(1, len(figures.refused))


def _belongs(exchange: Exchange, stream: str | None, suffix: str = "") -> bool:
    if stream is None:
        return exchange.stream.endswith(BACK) == bool(suffix)
    return exchange.stream == stream + suffix


def rate_between(sent: Sent, begin: float, end: float) -> float:
    """Images per second that got their scores between two moments of the monotonic clock."""
    scores = sum(e.scores for e in sent.exchanges if begin <= e.done <= end)
    return scores / max(1e-9, end - begin)
