"""How much a batch may hold: by time, and by what the device's memory was found to hold."""

from dataclasses import dataclass

from app.batching.rate import Rate

# Batches without a failure after which a budget that memory had halved is doubled again.
_RECOVERY = 200
# Times as long as it should a batch may take for the sake of its overhead, or of a whole image.
_LONGEST = 2


@dataclass(frozen=True)
class Limits:
    """``batch_seconds`` of work per batch at the measured rate, never over a cost of
    ``batch_rows``; ``lead`` seconds before a running batch is expected to end, the next one is
    handed over.
    """

    batch_seconds: float = 0.25
    batch_rows: int = 128
    lead: float = 0.01

    def rows(self, rate: Rate, most: int, *, gives_way: bool = False) -> int:
        """What a batch may cost at that rate, of ``most`` that fit into memory; ``gives_way``:
        somebody more urgent may come while it runs.

        A slow machine does not make batches ever smaller: with fewer rows than are worthwhile they
        would spend the more on their overhead, and be slower still.
        """
        if not rate.known:
            return most
        seconds = self.batch_seconds / 2 if gives_way else self.batch_seconds
        worthwhile = min(rate.worthwhile_rows(), rate.rows_within(_LONGEST * seconds))
        return min(most, max(worthwhile, rate.rows_within(seconds)))

    @staticmethod
    def keeps_whole(cost: int, budget: int, most: int) -> bool:
        """Whether an image of that cost is computed at once rather than split: what is left of one
        that is a little over the budget would be a batch of little but overhead.
        """
        return cost <= min(most, _LONGEST * budget)


@dataclass
class Cap:
    """The largest batch of one model that the device's memory is known to hold, by cost."""

    most: int
    now: int
    good_batches: int = 0

    def halve(self, failed: int) -> None:
        """A batch of that cost did not fit."""
        self.now = max(1, min(self.now, failed // 2))

    def after_good_batch(self) -> None:
        """Doubles a halved cap after many batches without a failure."""
        self.good_batches += 1
        if self.good_batches >= _RECOVERY and self.now < self.most:
            self.now = min(self.most, self.now * 2)
            self.good_batches = 0
