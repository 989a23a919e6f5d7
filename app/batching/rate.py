"""The measured speed of the device, model by model: seconds = pace * (overhead + rows * seconds per
row). Rows are counted by their cost: a larger one counts as several.

The line belongs to the network and the sizes of its batches, and is fitted to the latest of them.
The pace belongs to the machine: beside a busy neighbour all batches take longer, large and small,
and a few of them tell.
"""

_DECAY = 0.95  # weight that a batch keeps at each newer one: about the last 20 count
_HASTE = 0.25  # how far the pace follows each batch, in logarithms
# One batch that stood still for a while is no slow machine.
_MOST_STEP = 4.0
# So far from the line a batch may lie for the line: the rest is the pace's, or chance.
_SURPRISE = 1.25
# Batches of which all is taken for the line.
_FIRST = 3
# Of a batch's seconds, the share that its overhead may have before more rows are worth the wait.
_OVERHEAD = 0.2


class Rate:
    """A line through (rows, seconds) of recent batches, by least squares with forgetting, and a
    factor on it.
    """

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0
        self._line = 0.0, 0.0  # as it was fitted after the latest batch: each request asks for it
        self.pace = 1.0

    def observe(self, rows: int, seconds: float) -> None:
        """Takes in what a batch of so many rows took."""
        line = self.seconds(rows) / self.pace if self._n > _FIRST else 0.0
        if line > 0 and seconds > 0:
            self.pace *= _within(seconds / self.pace / line, _MOST_STEP) ** _HASTE
            own = line * _within(seconds / self.pace / line, _SURPRISE)
        else:
            own = seconds / self.pace
        self._n = self._n * _DECAY + 1
        self._x = self._x * _DECAY + rows
        self._y = self._y * _DECAY + own
        self._xx = self._xx * _DECAY + rows * rows
        self._xy = self._xy * _DECAY + rows * own
        self._line = self._fitted()

    @property
    def known(self) -> bool:
        """Whether anything was measured yet."""
        return self._n > 0

    def _fitted(self) -> tuple[float, float]:
        """(overhead, seconds per row), both at least 0; through the origin where the batches tell
        no slope.
        """
        mean_x, mean_y = self._x / self._n, self._y / self._n
        variance = self._xx / self._n - mean_x**2
        slope = (
            (self._xy / self._n - mean_x * mean_y) / variance
            if variance > 0.05 * mean_x**2
            else 0.0
        )
        overhead = mean_y - slope * mean_x
        if slope <= 0 or overhead < 0:
            return 0.0, mean_y / mean_x
        return overhead, slope

    def seconds(self, rows: int) -> float:
        """Expected seconds of one batch of so many rows; 0 while nothing is known."""
        overhead, slope = self._line
        return self.pace * (overhead + slope * rows) if rows else 0.0

    def share(self, rows: int) -> float:
        """Expected seconds of so many rows among others, with their share of the overhead of
        batches as they come; 0 while nothing is known.
        """
        return self.pace * self._y / self._x * rows if self._x else 0.0

    def rows_within(self, seconds: float) -> int:
        """Most rows that one batch may have to take at most ``seconds``; at least 1, and 1 while
        nothing is known.
        """
        overhead, slope = self._line
        if slope <= 0:
            return 1
        return max(1, int((seconds / self.pace - overhead) / slope + 1e-9))

    def worthwhile_rows(self) -> int:
        """Fewest rows of a batch that does not spend more than a fifth on its overhead: with fewer
        it is over sooner, and all that waits takes longer.
        """
        overhead, slope = self._line
        return max(1, round((1 / _OVERHEAD - 1) * overhead / slope)) if slope > 0 else 1


def _within(ratio: float, bound: float) -> float:
    return min(bound, max(1 / bound, ratio))


class Rates:
    """A ``Rate`` for each model: what a row takes differs by network."""

    def __init__(self) -> None:
        self._rates: dict[str, Rate] = {}

    def of(self, model: str) -> Rate:
        """The rate of one model, unmeasured at first."""
        return self._rates.setdefault(model, Rate())

    def slow_down(self, factor: float) -> None:
        """From now on all that is known takes so many times as long."""
        for rate in self._rates.values():
            rate.pace *= factor
