"""A scorer called like a metric of pyiqa: one number per image, in a tensor."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model.config import CropPolicy
from model.errors import ImageError
from model.methods.clip_iqa import ClipIqa, ClipIqaOptions
from model.methods.liqe import Liqe, LiqeOptions
from model.methods.network import Network
from model.scorer import Scorer, from_tensor
from tests.model import tiny
from tests.model.clip.test_resnet import resnet_clip


def scorer_of(network: Network, method: str, policy: CropPolicy | None = None) -> Scorer:
    config = tiny.config_of(
        network.options,
        method=method,
        heads=network.heads,
        crop_policy=policy or CropPolicy(),
    )
    return Scorer(config, network.eval(), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def scorers() -> dict[str, Scorer]:
    """One of each kind; tests must not change them."""
    iqa = ClipIqaOptions(attributes=())
    return {
        "clip-agiqa": scorer_of(tiny.random_network(), "clip-agiqa"),
        "clip-iqa": scorer_of(ClipIqa(tiny.random_clip(), iqa), "clip-iqa"),
        "whole-images": scorer_of(ClipIqa(resnet_clip(), iqa), "clip-iqa", CropPolicy.whole()),
        "liqe": scorer_of(Liqe(tiny.random_clip(), LiqeOptions()), "liqe", CropPolicy.liqe()),
    }


@pytest.fixture(scope="module")
def ours(scorers: dict[str, Scorer]) -> Scorer:
    return scorers["clip-agiqa"]


every_scorer = pytest.mark.parametrize(
    "name", ["clip-agiqa", "clip-iqa", "whole-images", "liqe"], ids=str
)


def tensor_of(*images: Image.Image) -> Tensor:
    """Float32 [N, channels, h, w] in [0, 1]."""
    arrays = [np.atleast_3d(np.asarray(image)).transpose(2, 0, 1) for image in images]
    return torch.from_numpy(np.stack(arrays)).float() / 255


def assert_is_a_metrics_answer(answer: Any, wanted: Sequence[float | None]) -> None:
    assert isinstance(answer, Tensor)
    assert answer.dtype == torch.float32
    assert answer.shape == (len(wanted), 1)
    assert answer.device == torch.device("cpu")
    assert not answer.requires_grad
    assert answer[:, 0].tolist() == pytest.approx(wanted, abs=1e-6)


@every_scorer
def test_every_kind_of_source_gives_the_quality_that_score_gives(
    name: str, scorers: dict[str, Scorer], tmp_path: Path
) -> None:
    scorer, image = scorers[name], tiny.picture(300, 250)
    path = tmp_path / "image.png"
    image.save(path)
    wanted = [scorer.score(image).quality]
    for source in (str(path), path, path.read_bytes(), image, np.asarray(image), tensor_of(image)):
        assert_is_a_metrics_answer(scorer(source), wanted)


@every_scorer
def test_a_tensor_of_several_images_is_scored_image_by_image(
    name: str, scorers: dict[str, Scorer]
) -> None:
    scorer, images = scorers[name], [tiny.picture(260, 230, seed) for seed in range(2)]
    wanted = [scorer.score(image).quality for image in images]
    assert_is_a_metrics_answer(scorer(tensor_of(*images)), wanted)
    assert abs(wanted[0] - wanted[1]) > 1e-5  # so that the order means something


def test_one_channel_is_a_grey_image(ours: Scorer) -> None:
    greys = [tiny.picture(260, 230, seed).convert("L") for seed in range(2)]
    answer = ours(tensor_of(*greys))
    assert tensor_of(*greys).shape == (2, 1, 230, 260)
    assert_is_a_metrics_answer(answer, [ours.score(grey).quality for grey in greys])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_tensors_of_any_floating_type_are_rounded_to_8_bit(dtype: torch.dtype) -> None:
    image = tiny.picture(40, 30)
    (again,) = from_tensor(tensor_of(image).to(dtype))
    assert (again.mode, again.size) == ("RGB", (40, 30))
    assert np.array_equal(np.asarray(again), np.asarray(image))


def test_rounding_is_to_the_nearest_of_256_values() -> None:
    x = torch.tensor([0.0, 0.49, 0.51, 127.4, 127.6, 254.51, 255.0]) / 255
    (image,) = from_tensor(x.view(1, 1, 1, 7))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 127, 128, 255, 255]


def test_channels_keep_their_order() -> None:
    x = torch.zeros(2, 3, 5, 4)
    x[0, 0], x[1, 2] = 1, 1
    red, blue = from_tensor(x)
    assert red.getpixel((3, 4)) == (255, 0, 0)
    assert blue.getpixel((0, 0)) == (0, 0, 255)


def test_a_tensor_that_needs_a_gradient_is_scored_without(ours: Scorer) -> None:
    x = tensor_of(tiny.picture(224, 224)).requires_grad_()
    answer = ours(x)
    assert_is_a_metrics_answer(answer, [ours.score(tiny.picture(224, 224)).quality])
    assert x.grad is None


def test_quality_alone_is_computed(ours: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    forward = ours.forward

    def watched(crops: np.ndarray, row_crop: Any, row_pass: Any) -> np.ndarray:
        asked.extend(row_pass)
        return forward(crops, row_crop, row_pass)

    monkeypatch.setattr(ours, "forward", watched)
    ours(tiny.picture(224, 224))
    assert asked == [0]  # one row, in the quality pass


@pytest.mark.parametrize(
    "shape",
    [
        (3, 224, 224),
        (224, 224),
        (1, 2, 224, 224),
        (1, 4, 224, 224),
        (1, 224, 224, 3),
        (2, 1, 3, 9, 9),
    ],
    ids=str,
)
def test_tensors_of_another_shape_are_refused(shape: tuple[int, ...], ours: Scorer) -> None:
    says = rf"\[N, 3, h, w\]; this is \[{', '.join(map(str, shape))}\]"
    with pytest.raises(ValueError, match=says):
        ours(torch.rand(shape))


@pytest.mark.parametrize(
    "value", [-0.01, 1.01, 255.0, float("nan"), float("inf")], ids=lambda v: str(v)
)
def test_values_outside_of_0_to_1_are_refused(value: float, ours: Scorer) -> None:
    x = torch.full((2, 3, 32, 32), 0.5)
    x[1, 2, 31, 31] = value
    with pytest.raises(ValueError, match=r"values in \[0, 1\]; divide 8-bit values by 255"):
        ours(x)


def test_an_8_bit_tensor_is_told_to_be_divided(ours: Scorer) -> None:
    x = torch.from_numpy(np.asarray(tiny.picture(32, 32)).copy()).permute(2, 0, 1)[None]
    with pytest.raises(ValueError, match="divide 8-bit values by 255"):
        ours(x)


def test_images_without_pixels_are_refused(ours: Scorer) -> None:
    with pytest.raises((ValueError, ImageError), match="0"):
        ours(torch.empty(1, 3, 0, 0))


def test_no_images_give_no_scores(ours: Scorer) -> None:
    assert ours(torch.empty(0, 3, 32, 32)).shape == (0, 1)


def test_images_that_score_refuses_are_refused(ours: Scorer) -> None:
    out = io.BytesIO()
    tiny.picture(64, 64).save(out, "PNG")
    with pytest.raises(ImageError, match="crop it to at most 50 : 1"):
        ours(torch.zeros(1, 3, 2, 200))
    with pytest.raises(ImageError, match="broken or cut off"):
        ours(out.getvalue()[:200])
    with pytest.raises(FileNotFoundError):
        ours("nowhere.png")


@every_scorer
def test_high_is_better_and_scores_lie_in_0_to_1(name: str, scorers: dict[str, Scorer]) -> None:
    assert scorers[name].lower_better is False
    assert scorers[name].score_range == "0, 1"
    answer = scorers[name](tensor_of(tiny.picture(224, 224), Image.new("RGB", (224, 224))))
    assert ((answer >= 0) & (answer <= 1)).all()
