"""A model beside its rivals on the same images: who agrees more with people, and how sure that is.

Figures of two models on one test set are correlated, so their intervals may overlap although one is
better in nearly every draw; the difference is therefore drawn, too (paired bootstrap).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from training.evaluation.metrics import FloatList, difference_interval, plcc, srcc
from training.research.rivals.rival import RivalReport

_METRICS = (srcc, plcc)


@dataclass(frozen=True, slots=True)
class Difference:
    """What the model's figure is above the rival's, with the 95 % interval of that."""

    rival: str
    metric: str
    model_figure: float
    rival_figure: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Of the model: "better", "worse" or "no difference shown"."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no difference shown"


def compare(
    predicted: FloatList,
    rivals: Sequence[RivalReport],
    mos: FloatList,
    rounds: int = 1000,
    groups: Sequence[str] | None = None,
) -> list[Difference]:
    """The model's ``predicted`` (high = better) against each rival, by SRCC and raw PLCC, on the
    same draws of the images' groups.
    """
    differences = []
    for rival in rivals:
        theirs = rival.predictions
        for metric in _METRICS:
            figures = metric(predicted, mos), metric(theirs, mos)
            ends = difference_interval(metric, predicted, theirs, mos, rounds=rounds, groups=groups)
            differences.append(Difference(rival.name, metric.__name__, *figures, *ends))
    return differences
