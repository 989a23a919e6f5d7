"""How far estimates are off: learned from when answers came."""

import math

# The estimate times the margin is to be over what 95 of 100 answers take.
_QUANTILE = 0.95
_STEP = 0.05
_MOST = 4.0
# What a lone request takes beside all estimates (its way through the house): so much of the time
# until its deadline, within so many seconds.
_SLACK = 0.1
_LEAST_SLACK, _MOST_SLACK = 0.05, 0.25


class Margin:
    """A factor on estimates of seconds, between 1 and 4: it rises by an answer that was later than
    the estimate times the factor, and falls by one that was not, nineteen times less.
    """

    def __init__(self) -> None:
        self._log = 0.0

    @property
    def factor(self) -> float:
        return math.exp(self._log)

    def observe(self, expected: float, actual: float, patience: float = 10.0) -> None:
        """An answer came, or ceased to be waited for, ``actual`` seconds after it was expected in
        ``expected``; it was due after ``patience``.
        """
        slack = min(_MOST_SLACK, max(_LEAST_SLACK, _SLACK * patience))
        is_late = actual > self.factor * expected + slack
        step = _QUANTILE if is_late else _QUANTILE - 1
        self._log = min(math.log(_MOST), max(0.0, self._log + _STEP * step))
