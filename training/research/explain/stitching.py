"""The views' maps laid back onto the image that the views were cut from."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.preprocess.windows import Grid


def lay_back(maps: Tensor, grid: Grid, size: tuple[int, int]) -> np.ndarray:
    """One map float32 [height, width] of an image of that ``size`` (width, height).

    Args:
        maps: [windows, h', w'] or one more, the global view's, each times what the view counts in
            the image's score.
        grid: where the windows lie.
        size: of the image in pixels.

    Returns:
        The mean of the windows that see a pixel, as if they counted for all, plus the global view.
        0 where nothing looks.
    """
    width, height = size
    windows = len(grid.windows)
    laid = stretch(mean_of_windows(maps[:windows] * windows, grid)[None], height, width)[0]
    for whole in maps[windows:]:
        laid = laid + stretch(whole[None], height, width)[0]
    return laid.numpy()


def mean_of_windows(maps: Tensor, grid: Grid) -> Tensor:
    """The windows' maps [n, h', w'] in their places [grid.height, grid.width]; where some overlap,
    their mean, in which a window counts the less the nearer its edge is (else edges would show).
    """
    across, down = grid.window
    total, counted = torch.zeros(2, grid.height, grid.width)
    trust = _tent(down)[:, None] * _tent(across)
    for (x, y), own in zip(grid.windows, stretch(maps, down, across), strict=True):
        total[y : y + down, x : x + across] += trust * own
        counted[y : y + down, x : x + across] += trust
    return total / counted.where(counted > 0, 1.0)


def _tent(length: int) -> Tensor:
    """Weights [length], largest in the middle, positive at both ends."""
    at = (torch.arange(length) + 0.5) / length
    return torch.minimum(at, 1 - at)


def stretch(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps [n, h', w'] at another size, bilinearly, each value in the middle of its cell."""
    return F.interpolate(maps[:, None], (height, width), mode="bilinear", antialias=True)[:, 0]
