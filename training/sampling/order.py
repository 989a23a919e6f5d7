"""Which images the steps of an epoch take: each once, in a shuffled order, or so many of each data
set in every step, as LIQE trains.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from training.data.samples import Sample
from training.errors import TrainingError


class Order:
    """Steps of ``size`` of the samples; with ``quotas``, so many of each data set in every step,
    set by set. An epoch is one pass over the samples, or ``steps`` steps, with as many passes as
    they take: within a pass no image comes twice, and what is too little for a last step of it is
    left out.

    Raises:
        TrainingError: a data set has fewer images than its quota, or all have fewer than a step.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        size: int,
        steps: int | None = None,
        quotas: Mapping[str, int] | None = None,
    ) -> None:
        self._pools = [(np.arange(len(samples)), size)]
        if quotas:
            sets = np.array([sample.dataset for sample in samples])
            self._pools = [(np.flatnonzero(sets == name), each) for name, each in quotas.items()]
            for name, (rows, each) in zip(quotas, self._pools, strict=True):
                _require(len(rows), each, f"{name} has", f"schedule.quotas.{name}")
        elif steps is not None:
            _require(len(samples), size, "there are", "schedule.batch")
        self.steps = (
            min(len(rows) // each for rows, each in self._pools) if steps is None else steps
        )

    def __len__(self) -> int:
        """Steps of an epoch."""
        return self.steps

    def epoch(self, seed: int, number: int) -> np.ndarray:
        """The samples of each step of epoch ``number`` by their places: [steps, size]."""
        rng = np.random.default_rng((seed, number))
        return np.concatenate([self._drawn(rng, *pool) for pool in self._pools], axis=1)

    def _drawn(self, rng: np.random.Generator, rows: np.ndarray, each: int) -> np.ndarray:
        """[steps, each] of one pool."""
        whole = len(rows) // each  # steps of a pass
        passes = [
            rows[rng.permutation(len(rows))][: whole * each].reshape(-1, each)
            for _ in range(math.ceil(self.steps / whole))
        ]
        return np.concatenate(passes)[: self.steps]


def _require(images: int, least: int, who: str, setting: str) -> None:
    if images < least:
        raise TrainingError(
            f"{who} {images} training images, and every step takes {least}: set {setting} lower"
        )
