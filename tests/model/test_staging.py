"""Crops copied to a GPU ahead of their batch."""

import numpy as np
import pytest
import torch

import model
from model.scorer import Scorer
from model.staging import staging_for
from tests.model import tiny

_NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_on_a_cpu_nothing_is_staged() -> None:
    assert staging_for(torch.device("cpu")) is None


@_NO_GPU
def test_staged_crops_arrive_whole_while_the_device_is_busy() -> None:
    device = torch.device("cuda")
    staging = staging_for(device)
    assert staging is not None
    parts = [np.random.default_rng(n).integers(0, 256, (8, 3, 64, 64), np.uint8) for n in range(6)]
    busy = torch.ones(4096, 4096, device=device)
    staged = []
    for one, other in zip(parts[::2], parts[1::2], strict=True):
        busy = busy @ busy
        staged.append(staging.join([one, other]))
    pixels = np.concatenate([each.pixels().cpu().numpy() for each in staged])
    assert np.array_equal(pixels, np.concatenate(parts))


@_NO_GPU
def test_rows_of_staged_crops_are_those_of_crops_that_were_not() -> None:
    scorer: Scorer = model.load("tiny-mpiqe", device="cuda", dtype="float32")
    staging = staging_for(scorer.device)
    assert staging is not None
    crops = scorer.crops(tiny.picture(300, 260))
    rows = range(len(crops))
    passes = [0] * len(crops)
    ahead = scorer.forward(staging.join([crops]), rows, passes)
    assert np.allclose(ahead, scorer.forward(crops, rows, passes), atol=1e-5)
