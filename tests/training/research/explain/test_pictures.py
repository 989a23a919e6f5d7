"""The picture of explanations side by side."""

import io

import numpy as np
import pytest
from PIL import Image

from training.research.explain.cam import Explanation
from training.research.explain.pictures import overlay, side_by_side


def explanation(width: int = 40, height: int = 30, *, hot: bool = True) -> Explanation:
    map_ = np.zeros((height, width), np.float32)
    if hot:
        map_[:, : width // 2] = 1
    return Explanation(map_, 0.625, "a $model$ of two $dollars$", "quality", "grad-cam")


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "PNG"
    return picture


@pytest.mark.parametrize("size", [(40, 30), (300, 20), (20, 300), (1, 1)])
def test_a_picture_is_made_of_images_of_any_shape(size: tuple[int, int]) -> None:
    picture = opened(side_by_side(Image.new("RGB", size), [("full", explanation(*size))]))
    assert min(picture.size) > 200


def test_each_explanation_gets_a_panel_and_its_own_map() -> None:
    image = Image.new("RGB", (40, 30), (128, 128, 128))
    pair = [("full", explanation()), ("visual-only", explanation(hot=False))]
    one, two = side_by_side(image, pair[:1]), side_by_side(image, pair)
    assert opened(two).width - opened(one).width == pytest.approx(
        (opened(one).width - 120) / 2, abs=2
    )
    assert two == side_by_side(image, pair)
    assert two != side_by_side(image, [pair[1], pair[0]])


def test_an_overlay_is_warm_where_the_map_is_high_and_grey_and_dark_where_it_is_not() -> None:
    image = Image.new("RGB", (40, 30), (200, 100, 50))
    laid = overlay(image, explanation().map).astype(int)
    assert laid.shape == (30, 40, 3)
    hot, cold = laid[:, :20].reshape(-1, 3), laid[:, 20:].reshape(-1, 3)
    assert (hot[:, 0] - hot[:, 2] > 50).all()
    assert (np.ptp(cold, axis=1) < 5).all()
    assert hot.mean() > cold.mean() + 50
