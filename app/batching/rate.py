"""The measured speed of the device, model by model: seconds = overhead + rows * seconds per row,
fitted to the latest batches. Rows are counted by their cost: a larger one counts as several.
"""

_DECAY = 0.95  # weight that a batch keeps at each newer one: about the last 20 count


class Rate:
    """A line through (rows, seconds) of recent batches, by least squares with forgetting."""

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        self._n = self._n * _DECAY + 1
        self._x = self._x * _DECAY + rows
        self._y = self._y * _DECAY + seconds
        self._xx = self._xx * _DECAY + rows * rows
        self._xy = self._xy * _DECAY + rows * seconds

    @property
    def known(self) -> bool:
        """Whether anything was measured yet."""
        return self._n > 0

    def _line(self) -> tuple[float, float]:
        """(overhead, seconds per row), both at least 0; through the origin where the batches tell
        no slope.
        """
        if not self._n:
            return 0.0, 0.0
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
        overhead, slope = self._line()
        return overhead + slope * rows if rows else 0.0

    def share(self, rows: int) -> float:
        """Expected seconds of so many rows among others, with their share of the overhead of
        batches as they come; 0 while nothing is known.
        """
        return self._y / self._x * rows if self._x else 0.0

    def rows_within(self, seconds: float) -> int:
        """Most rows that one batch may have to take at most ``seconds``; at least 1, and 1 while
        nothing is known.
        """
        overhead, slope = self._line()
        return max(1, int((seconds - overhead) / slope + 1e-9)) if slope > 0 else 1

    def backlog_seconds(self, rows: int, batch_rows: int) -> float:
        """Expected seconds to work off ``rows`` in batches of ``batch_rows``."""
        whole, rest = divmod(rows, max(1, batch_rows))
        return whole * self.seconds(batch_rows) + self.seconds(rest)


class Rates:
    """A ``Rate`` for each model: what a row takes differs by network."""

    def __init__(self) -> None:
        self._rates: dict[str, Rate] = {}

    def of(self, model: str) -> Rate:
        """The rate of one model, unmeasured at first."""
        return self._rates.setdefault(model, Rate())
