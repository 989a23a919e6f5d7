"""The first batches of a scorer: they show that it computes numbers, and how fast it is."""

import time

import numpy as np
import torch

from model.errors import CheckpointError
from model.scorer import Scorer

# Crops of an image of 512 x 512 by the bundled models: what is asked for most often.
IMAGE_ROWS = 5
# Sizes of the batches: they measure the rate, and let the libraries choose their kernels. On a CPU
# each row costs time until the service is ready; a GPU has large ones at once, and shows only by
# them what it can do.
_ROWS = (1, 1, IMAGE_ROWS, IMAGE_ROWS)
_ROWS_ON_GPUS = (1, 10, 10, 32)


def warm_up(scorer: Scorer) -> list[tuple[int, float]]:
    """Runs a few batches of noise; returns (rows, seconds), the very first one left out.

    Raises:
        CheckpointError: what comes out is no number.
    """
    timings = []
    for rows in _ROWS if scorer.device.type == "cpu" else _ROWS_ON_GPUS:
        start = time.perf_counter()
        compute_noise(scorer, rows)
        timings.append((rows, time.perf_counter() - start))
    return timings[1:]


def compute_noise(scorer: Scorer, rows: int) -> None:
    """Computes so many crops of noise, of the policy's own size, which whole images are measured in
    too.

    Raises:
        CheckpointError: what comes out is no number.
    """
    size = scorer.planner.policy.size
    crops = np.random.default_rng(0).integers(0, 256, (rows, 3, size, size), np.uint8)
    if not np.isfinite(scorer.forward(crops, range(rows), [0] * rows)).all():
        raise CheckpointError(
            "its output is not a number (NaN or infinite): fetch the checkpoint again, or choose "
            "dtype float32"
        )


def time_of_a_prompt(scorer: Scorer) -> float:
    """Seconds of a short prompt, once the libraries have chosen their kernels.

    Raises:
        CheckpointError: what comes out is no number.
    """
    for prompt in ("warm up", "and time"):
        start = time.perf_counter()
        features = scorer.embed([prompt])
        seconds = time.perf_counter() - start
        if not torch.isfinite(features).all():
            raise CheckpointError("its text features are not numbers: fetch the checkpoint again")
    return seconds
