"""A device whose speed is known, for what estimates are made of."""

from collections.abc import Mapping

from app.batching.fairness import Priority


class KnownDevice:
    """Implements ``app.batching.admission.Estimates`` by figures."""

    def __init__(self, per_row: Mapping[str, float]) -> None:
        self.per_row = dict(per_row)
        self.late = 0.0
        self.at_device = 0.0
        self.waiting: set[Priority] = set()
        self.use = 0.0

    def work_seconds(self, model: str, cost: int) -> float:
        return self.per_row[model] * cost

    @property
    def workers(self) -> int:
        return 1

    def alone_seconds(self, model: str, cost: int) -> float:
        return self.work_seconds(model, cost)

    def overrun(self, now: float) -> float:
        del now
        return self.late

    def busy(self, now: float) -> float:
        del now
        return self.at_device

    def waits(self, priority: Priority) -> bool:
        return priority in self.waiting

    def interactive_use(self, now: float) -> float:
        del now
        return self.use
