from pathlib import Path

import numpy as np
import pytest

from model.config import CropPolicy
from tests.training.miniature import write_agiqa3k
from training.data import datasets
from training.sampling.batches import Batch, Batches
from training.sampling.pictures import Pictures


def views(folder: Path, flips: float) -> list[np.ndarray]:
    """All views of an epoch: windows, wholes, and those of degraded images."""
    pictures = Pictures(CropPolicy(size=32, stride=24, max_side=64), (1.0, 1.25))
    samples = datasets.read(folder)
    made = Batches(samples, pictures, size=4, seed=1, windows=2, flips=flips, degraded=2)
    return [view for batch in made.epoch(0) for view in _of(batch)]


def _of(batch: Batch) -> list[np.ndarray]:
    worse = batch.degraded
    assert worse is not None
    assert batch.wholes is not None
    assert worse.wholes is not None
    several = (batch.windows.flatten(0, 1), batch.wholes, worse.windows.flatten(0, 1), worse.wholes)
    return [view for tensor in several for view in tensor.numpy()]


@pytest.mark.parametrize(("flips", "share"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_the_share_of_views_that_are_mirrored_is_the_schedule_s(
    tmp_path: Path, flips: float, share: float
) -> None:
    folder = write_agiqa3k(tmp_path, prompts=4)
    pairs = [
        (view, other)
        for view, other in zip(views(folder, flips), views(folder, 0.0), strict=True)
        if not np.array_equal(other, other[..., ::-1])  # some degraded views are plain
    ]
    mirrored = [np.array_equal(view, other[..., ::-1]) for view, other in pairs]
    same = [np.array_equal(view, other) for view, other in pairs]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert np.mean(mirrored) == pytest.approx(share, abs=0.2)
