"""Both versions of a degraded image are one thing, stronger and weaker."""

import numpy as np
import pytest

from training.sampling.degraded import Plan, cut

PIXELS = np.full((64, 64, 3), (118, 128, 138), np.uint8)


def spread(pixels: np.ndarray) -> float:
    """How far the channels of [k, 3, s, s] are from grey."""
    return float(pixels.astype(float).std(1).mean())


@pytest.mark.parametrize("seed", range(12))
def test_colours_of_a_pair_both_fade_or_both_glare(seed: int) -> None:
    planned = Plan(0, "saturation", (0.3, 0.8))
    windows, wholes = cut(PIXELS, planned, 32, 1, np.random.default_rng(seed))
    clean = spread(PIXELS.transpose(2, 0, 1)[None])
    for weaker, stronger in ((windows[0], windows[1]), (wholes[:1], wholes[1:])):
        if spread(weaker) < clean:
            assert spread(stronger) < spread(weaker)
        else:
            assert spread(stronger) > spread(weaker)


def test_noise_of_a_pair_is_the_same_but_for_its_strength() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    windows, _ = cut(grey, Plan(0, "noise", (0.3, 0.6)), 32, 1, np.random.default_rng(0))
    weaker, stronger = (views.astype(float).ravel() - 128 for views in windows)
    assert np.corrcoef(weaker, stronger)[0, 1] > 0.98
