"""What the service's rule is compared with: that of version 0.5.0, and CoDel."""

import math
from dataclasses import dataclass
from typing import Any

from app.batching.admission import Admission
from app.batching.budget import Limits
from app.batching.errors import Overloaded
from app.batching.fairness import Sender
from app.batching.jobs import Batch
from app.batching.ledger import Load, Ticket
from app.batching.rate import Rate, Rates
from app.batching.scheduler import Scheduler
from benchmarks.overload.service import OURS, Rule

# Of a line's sums, what they keep at each newer batch in 0.5.0.
_DECAY = 0.95
# CoDel's (RFC 8289, 4.3 and 4.4): an acceptable delay of a tenth of the time within which whoever
# sends could hear of it, and that time a tenth of the deadline.
_INTERVAL = 1.0
_TARGET = _INTERVAL / 10


class _LineOnly(Rate):
    """Takes a slow machine for a slow line."""

    def observe(self, rows: int, seconds: float) -> None:
        self._n = self._n * _DECAY + 1
        self._x = self._x * _DECAY + rows
        self._y = self._y * _DECAY + seconds
        self._xx = self._xx * _DECAY + rows * rows
        self._xy = self._xy * _DECAY + rows * seconds
        self._line = self._fitted()


class _LinesOnly(Rates):
    def of(self, model: str) -> Rate:
        return self._rates.setdefault(model, _LineOnly())


@dataclass(frozen=True)
class _Shrinking(Limits):
    """A quarter second a batch, whatever the machine is at."""

    def rows(self, rate: Rate, most: int, *, gives_way: bool = False) -> int:
        del gives_way
        return min(most, rate.rows_within(self.batch_seconds)) if rate.known else most


class _OpenDoor(Admission):
    """Judges when the body is there."""

    def at_the_door(
        self, deadline: float, sender: Sender, *, single: bool, size: int = 0
    ) -> Ticket | None:
        del deadline, sender, single, size
        return None


class _AllWithinTheDeadline(_OpenDoor):
    """Admits whatever is due after all that is there, computed one after another, is done."""

    def _judge(self, model: str, load: Load, deadline: float, *_: Any, **__: Any) -> float:
        own = self._estimates.work_seconds(model, load.cost)
        expected = sum(line.seconds()[0] for line in self._lines.values()) + own
        late = self._clock() + expected - deadline
        if late > 0 and any(map(len, self._lines.values())):
            raise Overloaded(retry_after=late)
        return expected

    def answered(self, ticket: Ticket) -> None:
        """Learns nothing."""


class _All(_OpenDoor):
    """Admits whatever the ceilings have room for."""

    def _judge(self, *_: Any, **__: Any) -> float:
        return 0.0


class CoDel:
    """Which jobs are dropped when they come to the device, by how long they waited (RFC 8289, as in
    its section 5).
    """

    def __init__(self) -> None:
        self._first_above = 0.0  # an interval after the delay began to be over the target
        self._drop_next = 0.0
        self._count = self._last_count = 0
        self._dropping = False

    def drops(self, waited: float, now: float) -> bool:
        """Whether the first one in line is dropped; to be called for each one that comes first."""
        bad = self._is_bad(waited, now)
        if not bad:
            self._dropping = False
            return False
        if self._dropping:
            if now < self._drop_next:
                return False
            self._count += 1
            self._drop_next += _INTERVAL / math.sqrt(self._count)
            return True
        self._dropping = True
        # Soon after it was in this state before, it goes on about as fast as it was.
        delta = self._count - self._last_count
        recent = now - self._drop_next < 16 * _INTERVAL
        self._count = delta if delta > 1 and recent else 1
        self._last_count = self._count
        self._drop_next = now + _INTERVAL / math.sqrt(self._count)
        return True

    def _is_bad(self, waited: float, now: float) -> bool:
        if waited < _TARGET:
            self._first_above = 0.0
            return False
        if not self._first_above:
            self._first_above = now + _INTERVAL
            return False
        return now >= self._first_above


class _Dropping(Scheduler):
    """Drops what CoDel drops, before it takes the rest."""

    def __init__(self) -> None:
        super().__init__(Limits(), Rates())
        self._codel = CoDel()

    def next_batch(self, now: float) -> Batch | None:
        if self._turn(now) is not None:
            queue = self._next_queue()
            while (job := queue.first()) and self._codel.drops(now - job.arrived, now):
                self._finish(job, Overloaded(retry_after=_INTERVAL))
        return super().next_batch(now)


RULES = (
    OURS,
    Rule("0.5.0", lambda: Scheduler(_Shrinking(), _LinesOnly()), _AllWithinTheDeadline),
    Rule("CoDel", _Dropping, _All),
)
