"""When a worker counts as hanging: a state machine that reads no clock.

Time comes in ticks, each counted up to a limit: if we ourselves stood still (a stopped container, a
machine without a free core), the worker is not blamed for it. What it waited for a core counts
little.
"""

from enum import Enum

_LONGEST_TICK = 0.5
# The part of a tick that counts in any case: one thread may hang while another one is starved.
_STARVED = 0.2
# Seconds without a message or progress after which it is worth while to look closer.
_DOUBT = 0.75
# Seconds without any message of a worker that is up. Its beats come every half second.
_SILENT_SLOW, _SILENT_HANG = 1.5, 2.5
# Seconds that a batch, or a step of it, may always take, and how many times what is expected of it.
_STILL_SLOW, _STILL_HANG = 1.5, 2.0
_TIMES_SLOW, _TIMES_HANG = 5.0, 10.0
# A load may take so many times the last one, and always so many seconds.
_LOAD_TIMES, _LOAD_SECONDS = 3.0, 5.0


class Health(Enum):
    """What a worker seems to be."""

    WELL = "well"
    SLOW = "slow"  # nothing should be sent to it that can go elsewhere
    HANGS = "hangs"


def load_limit(first: float, last: float | None, slow: int) -> float:
    """Seconds that a worker may load.

    Args:
        first: the limit while no load was measured.
        last: seconds of the latest that ended well.
        slow: how many in a row were over the limit since; the machine may have become slower.
    """
    if last is None:
        return first
    limit = max(_LOAD_SECONDS, _LOAD_TIMES * last)
    return min(max(limit, first), limit * 2.0**slow)


class Watch:
    """Of one worker, from its start. While it loads, only ``load_limit`` counts: importing can keep
    even its beats from coming.
    """

    def __init__(self, load_limit: float) -> None:
        self._load_limit = load_limit
        self._loading = True
        self._age = 0.0
        self._silent = 0.0
        self._still = 0.0
        self._step: object = None
        self._expected = 0.0
        self.why = ""  # it hangs, for the operator

    @property
    def in_doubt(self) -> bool:
        """Whether it matters how long it waited for a core."""
        return self._loading or max(self._silent, self._still) > _DOUBT

    def loaded(self) -> None:
        """It is ready for batches."""
        self._loading = False

    def heard(self) -> None:
        """A message came, of whatever kind."""
        self._silent = 0.0

    def step(self, which: object, expected: float) -> None:
        """It is at this part of a batch; the same again is no progress."""
        if which != self._step:
            self.progress()
            self._step, self._expected = which, expected

    def progress(self) -> None:
        """A batch came back, or the first one was sent."""
        self._still = 0.0
        self._step, self._expected = None, 0.0

    def tick(self, seconds: float, expected: float | None, starved: float = 0.0) -> Health:
        """Lets time pass.

        Args:
            seconds: since the last tick.
            expected: seconds of the batch that is next to come back; None: there is none.
            starved: seconds of the tick that it waited for a core.
        """
        seconds = min(max(seconds - starved, _STARVED * seconds), _LONGEST_TICK)
        self._age += seconds
        self._silent += seconds
        self._still = self._still + seconds if expected is not None else 0.0
        if self._loading:
            if self._age <= self._load_limit:
                return Health.WELL
            self.why = f"it was not ready within {self._load_limit:.3g} s"
            return Health.HANGS
        return self._health(max(expected or 0.0, self._expected))

    def _health(self, expected: float) -> Health:
        if self._silent > _SILENT_HANG:
            self.why = f"it gave no sign of life for {self._silent:.3g} s"
            return Health.HANGS
        if self._still > max(_STILL_HANG, _TIMES_HANG * expected):
            self.why = f"it made no progress with a batch for {self._still:.3g} s"
            return Health.HANGS
        if self._silent > _SILENT_SLOW or self._still > max(_STILL_SLOW, _TIMES_SLOW * expected):
            return Health.SLOW
        return Health.WELL
