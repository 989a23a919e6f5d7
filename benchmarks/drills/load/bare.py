"""What the network does without a service around it: decode, crops, batches, in one process."""

import itertools
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.drills.aside import Aside
from benchmarks.drills.load.burner import cores
from benchmarks.drills.load.loads import DTYPE

if TYPE_CHECKING:
    from model.scorer import Scorer

_MODEL = "tiny-mpiqe"
_BATCHES = (1, 4, 16)
_SPARE = 120.0


def best(images: Sequence[bytes], seconds: float) -> float:
    """Images per second of the best batch size, each tried for that long."""
    with Aside(_rates, tuple(images), seconds) as scoring:
        return max(scoring.wait(len(_BATCHES) * seconds + _SPARE))


def _rates(_: Event, images: Sequence[bytes], seconds: float) -> list[float]:
    import model
    from model.scorer import limit_threads

    limit_threads(cores())
    scorer = model.load(_MODEL, device="cpu", dtype=DTYPE)
    pictures = itertools.cycle(images)
    rates = []
    for size in _BATCHES:
        _score(scorer, list(itertools.islice(pictures, size)))
        begin, count = time.monotonic(), 0
        while time.monotonic() - begin < seconds:
            _score(scorer, list(itertools.islice(pictures, size)))
            count += size
        rates.append(count / (time.monotonic() - begin))
    return rates


def _score(scorer: "Scorer", files: Sequence[bytes]) -> None:
    """One batch, as the service's worker computes it."""
    from model.preprocess import images

    pictures = [images.read(file) for file in files]
    layouts = [scorer.plan(*picture.size, ("quality",)) for picture in pictures]
    crops = [scorer.planner.cut(p, layout) for p, layout in zip(pictures, layouts, strict=True)]
    starts = np.cumsum([0, *(len(each) for each in crops)])
    row_crop = [
        int(start) + crop
        for start, layout in zip(starts[:-1], layouts, strict=True)
        for crop in layout.row_crop
    ]
    row_pass = [each for layout in layouts for each in layout.row_pass]
    rows = scorer.forward(np.concatenate(crops), row_crop, row_pass)
    parts = np.split(rows, np.cumsum([layout.rows for layout in layouts])[:-1])
    for part, layout in zip(parts, layouts, strict=True):
        scorer.reduce(part, layout)
