"""How far estimates are off: learned from when answers came."""

import math

# The estimate times the margin is to be over what 95 of 100 answers take.
_QUANTILE = 0.95
_STEP = 0.05
_MOST = 4.0
# What a lone request takes beside all estimates (its way through the house), in seconds.
_SLACK = 0.25


class Margin:
    """A factor on estimates of seconds, between 1 and 4: it rises by an answer that was later than
    the estimate times the factor, and falls by one that was not, nineteen times less.
    """

    def __init__(self) -> None:
        self._log = 0.0

    @property
    def factor(self) -> float:
        return math.exp(self._log)

    def observe(self, expected: float, actual: float) -> None:
        """An answer came ``actual`` seconds after it was expected in ``expected``."""
        is_late = actual > self.factor * expected + _SLACK
        step = _QUANTILE if is_late else _QUANTILE - 1
        self._log = min(math.log(_MOST), max(0.0, self._log + _STEP * step))
