"""Degradations do what their names say, and more of it at higher strength."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from model.methods.vocabulary import DISTORTIONS
from training.sampling.degradations import DEGRADATIONS, degrade


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Smooth colours with edges and fine texture, 96 x 128."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128]
    waves = [100 + 60 * np.sin(x / 9 + c) + 40 * np.cos(y / 7 - c) for c in range(3)]
    image = np.stack(waves, axis=2) + rng.normal(0, 8, (96, 128, 3))
    image[30:60, 40:80] = (220, 60, 40)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_is_further_from_the_image_the_stronger_it_is(kind: str, photo: np.ndarray) -> None:
    distances = []
    for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
        worse = degrade(photo, kind, strength, np.random.default_rng(3))
        assert worse.shape == photo.shape
        assert worse.dtype == np.uint8
        distances.append(np.abs(worse.astype(int) - photo).mean())
    assert distances == sorted(distances)
    assert distances[-1] > 2 * max(distances[0], 1)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_leaves_the_image_itself_alone(kind: str, photo: np.ndarray) -> None:
    before = photo.copy()
    degrade(photo, kind, 0.7, np.random.default_rng(0))
    assert_array_equal(photo, before)


def test_words_are_those_of_mp_iqe() -> None:
    words = [degradation.word for degradation in DEGRADATIONS.values()]
    assert set(words) <= set(DISTORTIONS)
    assert len(set(words)) == len(words)


def test_blur_takes_the_fine_structure_and_keeps_the_mean(photo: np.ndarray) -> None:
    worse = degrade(photo, "blur", 1.0, np.random.default_rng(0)).astype(float)
    assert (
        np.abs(np.diff(worse, axis=1)).mean()
        < np.abs(np.diff(photo.astype(float), axis=1)).mean() / 3
    )
    assert worse.mean() == pytest.approx(photo.mean(), abs=2)


def test_darkening_and_brightening_go_apart(photo: np.ndarray) -> None:
    dark, bright = (
        degrade(photo, k, 0.5, np.random.default_rng(0)) for k in ("darkening", "brightening")
    )
    assert dark.mean() < photo.mean() < bright.mean()


def test_pixelation_makes_squares_of_one_colour(photo: np.ndarray) -> None:
    worse = degrade(photo, "pixelation", 1.0, np.random.default_rng(0))
    assert len(np.unique(worse.reshape(-1, 3), axis=0)) <= 6 * 8


def test_quantization_leaves_few_levels(photo: np.ndarray) -> None:
    worse = degrade(photo, "quantization", 1.0, np.random.default_rng(0))
    assert set(np.unique(worse)) == {0, 255}


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_refuses_a_strength_that_is_none(strength: float, photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match="outside of 0 to 1"):
        degrade(photo, "blur", strength, np.random.default_rng(0))
