"""The no-image baseline: what is known of a score from the generator and the prompt alone, without
a pixel.

An additive model "generator-and-mode mean + prompt mean", fitted on training scores. A model that
sees the image must beat it; a prompt that training did not see gets no prompt effect, so on a
prompt-disjoint split the generator alone speaks.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from training.data.samples import Sample


def predict_baseline(
    train: Sequence[Sample], test: Sequence[Sample], score: str = "mos"
) -> list[float]:
    """The baseline's predictions for ``test``; ``score`` is "mos" or "mos_align"."""
    overall = float(np.mean([getattr(s, score) for s in train]))
    by_source = _means([(s.source, getattr(s, score)) for s in train])
    by_prompt = _means([(s.group, getattr(s, score) - by_source[s.source]) for s in train])
    return [by_source.get(s.source, overall) + by_prompt.get(s.group, 0.0) for s in test]


def _means(pairs: Sequence[tuple[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for key, value in pairs:
        values[key].append(value)
    return {key: float(np.mean(v)) for key, v in values.items()}
