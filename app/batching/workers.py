"""The workers, a lane each: what is at them, how fast they are, and which of them is next. No
clock, no I/O.
"""

import math
from collections.abc import Iterator, Sequence

from app.batching.budget import Cap, Limits
from app.batching.jobs import Batch
from app.batching.lending import Lender, Loan
from app.batching.rate import Rates


class WorkerLane:
    """The batches of one worker, in order: one runs, one waits.

    Attributes:
        rates: how fast it computes.
        batch_rows: the most that one of its batches may cost.
        up: whether batches can be handed to it.
        well: whether it gives signs of life; where another one does, that is preferred.
        running: the first one is computed, the other one waits behind it.
    """

    def __init__(self, number: int, rates: Rates, batch_rows: int) -> None:
        self.number = number
        self.rates = rates
        self.batch_rows = batch_rows
        self.up = True
        self.well = True
        self.running: list[Batch] = []
        self._not_begun: set[Batch] = set()  # waited behind one that ended the worker
        self._busy_until = 0.0  # when the batches at it are expected to be done
        self._caps: dict[str, Cap] = {}

    def cap(self, model: str) -> Cap:
        """What its memory holds of that model, ``batch_rows`` at first."""
        return self._caps.setdefault(model, Cap(self.batch_rows, self.batch_rows))

    def take(self, batch: Batch, now: float) -> None:
        """A batch is handed over; it starts when the one before it ends."""
        starts = max(now, self._busy_until) if self.running else now
        self._busy_until = starts + batch.expected
        self.running.append(batch)

    def leave(self, batch: Batch) -> bool:
        """A batch comes back; whether the worker had begun with it."""
        began = self.running[:1] == [batch] and batch not in self._not_begun
        self.running = [other for other in self.running if other is not batch]
        self._not_begun.discard(batch)
        return began

    def ended(self) -> None:
        """The worker ended with the first of its batches, which has left; the other one, which
        comes back too, was never begun.
        """
        self._not_begun.update(self.running)

    @property
    def busy_until(self) -> float:
        """When what is at it is expected to be done."""
        return self._busy_until

    def busy(self, now: float) -> float:
        """Seconds until what is at it is expected to be done."""
        return max(0.0, self._busy_until - now) if self.running else 0.0

    def overrun(self, now: float) -> float:
        """Seconds by which what is at it should be done."""
        return max(0.0, now - self._busy_until) if self.running else 0.0


class Lanes:
    """All of them, and what they do together."""

    def __init__(self, limits: Limits, rates: Sequence[Rates]) -> None:
        """``rates``: of each worker. ``lender``: they share a CPU, which was measured."""
        self.limits = limits
        self.lender: Lender | None = None
        self._all = [
            WorkerLane(number, each, limits.batch_rows) for number, each in enumerate(rates)
        ]

    def grow(self, rates: Rates) -> WorkerLane:
        """One more worker, which is not up yet."""
        lane = WorkerLane(len(self._all), rates, self.limits.batch_rows)
        lane.up = lane.well = False
        self._all.append(lane)
        return lane

    def loan(self, lane: WorkerLane, *, more: bool) -> Loan:
        """What a batch is computed with there that is handed over now; ``more`` work waits, which
        others begin with at once.
        """
        if self.lender is None:
            return Loan()
        idle = sum(not other.running for other in self._all if other is not lane)
        return self.lender.loan(0 if more else idle)

    def learn(self, batch: Batch, seconds: float) -> None:
        """Takes in what a batch took: the rate is that of a worker with its own cores."""
        rate = self._all[batch.lane].rates.of(batch.model)
        alone: float | None = seconds
        if self.lender is not None:
            expected = rate.seconds(batch.cost)
            alone = self.lender.seconds_without(batch.loan, seconds, expected)
        if alone is not None:
            rate.observe(batch.cost, alone)

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, number: int) -> WorkerLane:
        return self._all[number]

    def __iter__(self) -> Iterator[WorkerLane]:
        return iter(self._all)

    @property
    def usable(self) -> list[WorkerLane]:
        """Those that batches should be handed to."""
        up = [lane for lane in self._all if lane.up]
        return [lane for lane in up if lane.well] or up

    @property
    def batches(self) -> list[Batch]:
        """All that are at a worker."""
        return [batch for lane in self._all for batch in lane.running]

    def budget(self, lane: WorkerLane, model: str, *, gives_way: bool = False) -> int:
        """What a batch of that model may cost there now; a single row may cost more."""
        return self.limits.rows(lane.rates.of(model), lane.cap(model).now, gives_way=gives_way)

    def seconds(self, lane: WorkerLane, model: str, cost: int) -> float:
        """Expected seconds of so much work in full batches of one worker; 0 while nothing is
        known.
        """
        budget = self.budget(lane, model)
        return lane.rates.of(model).seconds(budget) * cost / budget

    def joint_seconds(self, model: str, cost: int) -> float:
        """The same of all workers that are up, each at its own rate."""
        if len(self._all) == 1:
            return self.seconds(self._all[0], model, cost)
        each = self._known_seconds(model, cost)
        return 1 / sum(1 / seconds for seconds in each) if each else 0.0

    def least_seconds(self, model: str, cost: int) -> float:
        """The same of the fastest of them alone."""
        if len(self._all) == 1:
            return self.seconds(self._all[0], model, cost)
        return min(self._known_seconds(model, cost), default=0.0)

    def share(self, lane: WorkerLane, model: str, cost: int, now: float) -> int:
        """What one worker should take of so much work that waits, so that all those that are up are
        done with it together, those included that have other work before it.
        """
        others = self.usable
        if len(others) < 2:
            return cost
        # By when they are free; and what each computes in a second.
        free = sorted((other.busy(now), self.seconds(other, model, 1)) for other in others)
        if not all(seconds for _, seconds in free):
            return cost
        done, speed = float(cost), 0.0
        until = math.inf
        for busy, seconds in free:
            if busy >= until:
                break
            done += busy / seconds
            speed += 1 / seconds
            until = done / speed
        mine = (until - lane.busy(now)) / self.seconds(lane, model, 1)
        return min(cost, max(0, math.ceil(mine - 1e-6)))

    def fastest(self, lanes: Sequence[WorkerLane], model: str, cost: int) -> WorkerLane:
        """Who of these, which are idle, would be done first with so much work."""
        if len(lanes) == 1:
            return lanes[0]
        return min(lanes, key=lambda lane: lane.rates.of(model).seconds(cost))

    def _known_seconds(self, model: str, cost: int) -> list[float]:
        each = (self.seconds(lane, model, cost) for lane in self.usable or self._all)
        return [seconds for seconds in each if seconds > 0]
