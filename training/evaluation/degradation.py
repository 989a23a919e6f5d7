"""Does the quality fall as an image is degraded more? Measured on clean images, without raters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from model.preprocess import images
from model.scorer import Scorer
from training.data.samples import Sample
from training.evaluation.metrics import srcc
from training.sampling.degradations import DEGRADATIONS, degrade

STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Falls:
    """``srcc``: by kind, the mean over images of the rank correlation between strength and quality;
    -1 is a perfect fall. ``quality``: by kind, the mean quality at strength 0 (the image itself)
    and at each of ``STRENGTHS``.
    """

    images: int
    srcc: dict[str, float]
    quality: dict[str, list[float]]


def clean(samples: Sequence[Sample], count: int) -> list[Sample]:
    """The ``count`` best-rated: those that have quality to lose."""
    return sorted(samples, key=lambda sample: -sample.mos)[:count]


def falls(
    scorer: Scorer,
    samples: Sequence[Sample],
    kinds: Sequence[str] = tuple(DEGRADATIONS),
) -> Falls:
    """Degrades every image by every kind at rising strength, at its own size, and scores it."""
    steps = (0.0, *STRENGTHS)
    rows: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for number, sample in enumerate(tqdm(samples, desc="degrade", unit="image")):
        pixels = np.asarray(images.read(sample.path))
        unchanged = _quality(scorer, pixels)
        for kind in kinds:
            rng = np.random.default_rng((0, number))
            start = rng.bit_generator.state
            row = [unchanged]
            for strength in STRENGTHS:
                rng.bit_generator.state = start  # the same choices and noise at every strength
                row.append(_quality(scorer, degrade(pixels, kind, strength, rng)))
            rows[kind].append(row)
    return Falls(
        len(samples),
        {kind: _fall(steps, of) for kind, of in rows.items()},
        {kind: np.mean(of, axis=0).tolist() for kind, of in rows.items()},
    )


def _fall(steps: Sequence[float], rows: Sequence[Sequence[float]]) -> float:
    """The mean rank correlation; a score that never moves (nan) does not fall."""
    return float(np.mean(np.nan_to_num([srcc(row, steps) for row in rows])))


def _quality(scorer: Scorer, pixels: np.ndarray) -> float:
    quality = scorer.score(Image.fromarray(pixels), heads=["quality"]).quality
    assert quality is not None
    return quality
