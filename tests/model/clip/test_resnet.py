"""CLIP's ResNet without positional embedding: what it computes, and how it takes whole images."""

import math
from functools import cache
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from model.clip.backbone import build
from model.clip.resnet import ResNetTower, image_tower
from model.clip.towers import VisionTower
from model.config import Architecture, CropPolicy
from model.errors import BackboneError
from model.methods.clip_iqa import ClipIqa, ClipIqaOptions
from model.methods.clip_iqa_plus import ClipIqaPlus, ClipIqaPlusOptions
from model.methods.network import Options
from model.preprocess.crops import CropPlanner
from model.scorer import Scorer
from tests.model import tiny

VISION: dict[str, Any] = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 224}
WHOLE = CropPolicy.whole()

SIZES = [(224, 224), (224, 352), (480, 256), (225, 351), (32, 32), (33, 95)]  # height, width
every_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")


def resnet_clip(seed: int = 0) -> nn.Module:
    """A CLIP with a ResNet of four blocks; every weight and statistic differs from its start.

    Its batch norms know the variance of pictures; as built they would flatten all into one.
    """
    text = {"width": 16, "layers": 2, "heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip = open_clip.CLIP(embed_dim=16, vision_cfg=VISION, text_cfg=text, quick_gelu=True)
    tiny.shake(clip, seed)
    visual: Any = clip.visual.train()
    norms = [module for module in visual.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        visual.attnpool.q_proj.weight *= 0.1  # so that no token wins it all
        visual(torch.cat([photographs(2), pixels(224, 224, 2, torch.float32)]))
    for norm in norms:
        norm.momentum = 0.1
    return clip.eval()


def plain_resnet_feature(visual: Any, pixels: Tensor) -> Tensor:
    """Feature [d] of one image: open_clip's layers, then its attention pooling written out once
    more without positions, one head after another.
    """
    x = visual.stem(pixels[None])
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = layer(x)
    cells = [x[0, :, row, column] for row in range(x.shape[2]) for column in range(x.shape[3])]
    tokens = torch.stack([sum(cells) / len(cells), *cells])
    pool = visual.attnpool
    q = tokens[0] @ pool.q_proj.weight.T + pool.q_proj.bias
    k, v = (tokens @ p.weight.T + p.bias for p in (pool.k_proj, pool.v_proj))
    side = len(q) // pool.num_heads
    seen = []
    for head in range(pool.num_heads):
        own = slice(head * side, (head + 1) * side)
        weights = torch.exp(k[:, own] @ q[own] / math.sqrt(side))
        seen.append(weights / weights.sum() @ v[:, own])
    return torch.cat(seen) @ pool.c_proj.weight.T + pool.c_proj.bias


def pixels(height: int, width: int, count: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    noise = torch.Generator().manual_seed(3)
    return torch.randn(count, 3, height, width, generator=noise, dtype=dtype)


def photographs(count: int) -> Tensor:
    """Normalised pixels float32 [n, 3, 224, 224] with structure at several scales."""
    pictures = [np.asarray(tiny.picture(224, 224, seed), np.float32) for seed in range(count)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 64 - 2


def encoded(clip: Any, x: Tensor) -> Tensor:
    tower = ResNetTower(clip.visual)
    with torch.no_grad():
        return tower.encode(tower.patchify(x))


@pytest.fixture(scope="module")
def exact() -> Any:
    """The ResNet CLIP in float64; tests must not change it."""
    return resnet_clip().double()


def network(options: ClipIqaOptions | None = None) -> ClipIqa:
    return ClipIqa(resnet_clip(), options or ClipIqaOptions()).eval()


@cache
def scorer(policy: CropPolicy = WHOLE, dtype: str = "float32") -> Scorer:
    config = tiny.config_of(
        method="clip-iqa", options=Options(), heads=("quality",), crop_policy=policy
    )
    return Scorer(config, network(), device="cpu", dtype=dtype)


def test_it_is_open_clips_resnet_with_its_positional_embedding_set_to_zero() -> None:
    clip, x = resnet_clip().double(), pixels(224, 224)
    ours = encoded(clip, x)
    with torch.no_grad():
        with_positions = clip.visual(x)
        clip.visual.attnpool.positional_embedding.zero_()
        theirs = clip.visual(x)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)
    assert not torch.allclose(with_positions, theirs, atol=1e-2)


@every_size
def test_images_of_any_size_are_pooled_as_the_equation_says(
    size: tuple[int, int], exact: Any
) -> None:
    x = pixels(*size)
    ours = encoded(exact, x)
    with torch.no_grad():
        plain = torch.stack([plain_resnet_feature(exact.visual, one) for one in x])
    assert ours.shape == (2, 16)
    torch.testing.assert_close(ours, plain, atol=1e-10, rtol=1e-10)


@every_size
def test_an_image_among_others_gets_the_features_of_an_image_alone(size: tuple[int, int]) -> None:
    clip, x = resnet_clip(), pixels(*size, count=3, dtype=torch.float32)
    alone = torch.cat([encoded(clip, one[None]) for one in x])
    torch.testing.assert_close(encoded(clip, x), alone, atol=1e-5, rtol=1e-5)
    assert torch.pdist(alone).min() > 0.1


def test_the_tower_follows_its_images_and_knows_no_positions(exact: Any) -> None:
    x = pixels(224, 352)
    before = encoded(exact, x)
    mirrored = encoded(exact, x.flip(0))
    torch.testing.assert_close(mirrored, before.flip(0), atol=1e-10, rtol=1e-10)
    noisy = resnet_clip().double()
    with torch.no_grad():
        noisy.visual.attnpool.positional_embedding += 1
    torch.testing.assert_close(encoded(noisy, x), before, atol=1e-10, rtol=1e-10)


def test_a_resnet_takes_no_visual_prompts(exact: Any) -> None:
    with pytest.raises(ValueError, match="no visual prompts"):
        ResNetTower(exact.visual).encode(pixels(32, 32), torch.zeros(1, 2, 3, 16))


def test_the_image_tower_is_the_one_that_the_clip_has(exact: Any) -> None:
    vit: Any = tiny.random_clip()
    assert isinstance(image_tower(exact), ResNetTower)
    assert isinstance(image_tower(vit), VisionTower)
    with pytest.raises(BackboneError, match=r"no CLIP ResNet \(found VisionTransformer"):
        ResNetTower(vit.visual)
    with pytest.raises(BackboneError, match="found ModifiedResNet"):
        VisionTower(exact.visual)


def test_a_resnet_of_our_own_architecture_can_be_built() -> None:
    architecture = Architecture(
        embed_dim=16,
        vision_cfg=VISION,
        text_cfg={"width": 16, "layers": 2, "heads": 2},
        quick_gelu=True,
    )
    clip = build(architecture)
    assert clip.state_dict().keys() == resnet_clip().state_dict().keys()


def test_nothing_of_a_frozen_resnet_gets_a_gradient_or_moves_in_training() -> None:
    net = ClipIqaPlus(resnet_clip(), ClipIqaPlusOptions()).train()
    before = {name: value.clone() for name, value in net.vision.state_dict().items()}
    z = net.vision.encode(pixels(224, 224, dtype=torch.float32))
    net.probability(z).sum().backward()
    assert not z.requires_grad
    assert net.context.grad is not None
    assert not any(p.requires_grad or p.grad is not None for p in net.vision.parameters())
    for name, value in net.vision.state_dict().items():
        assert torch.equal(value, before[name]), name  # batch norms keep their statistics too


@pytest.mark.parametrize("size", [(224, 224), (352, 224), (700, 300)], ids=str)
def test_a_whole_image_is_its_own_only_crop(size: tuple[int, int]) -> None:
    image = tiny.picture(*size)
    planner = CropPlanner(tiny.config_of(heads=("quality",)), WHOLE)
    crops = planner.crops(image)
    layout = planner.layout(*size, ("quality",))
    assert (layout.windows, layout.crops, layout.row_crop) == (1, 1, (0,))
    assert layout.shape == size[::-1]
    assert np.array_equal(crops, np.asarray(image).transpose(2, 0, 1)[None])
    assert not layout.grid.is_scaled(*size)


def test_a_row_of_a_whole_image_costs_its_area() -> None:
    planner = CropPlanner(tiny.config_of(heads=("quality",)), WHOLE)
    sizes = [(100, 100), (224, 224), (225, 224), (448, 448), (1000, 600), (2000, 1500)]
    assert [planner.plan(*size, ("quality",)).cost for size in sizes] == [1, 1, 2, 4, 12, 60]


def test_whole_images_over_the_longest_side_are_scaled_down_in_one_step() -> None:
    image = tiny.picture(900, 600)
    planner = CropPlanner(tiny.config_of(heads=("quality",)), CropPolicy.whole(max_side=450))
    resized = np.asarray(image.resize((450, 300), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.array_equal(planner.crops(image), resized[None])


def test_a_vit_is_refused_whole_images_and_a_resnet_is_not() -> None:
    vit = ClipIqa(tiny.random_clip(), ClipIqaOptions()).eval()
    assert not vit.takes_any_size
    assert network().takes_any_size
    config = tiny.config_of(method="clip-iqa", options=Options(), heads=("quality",))
    for policy in (WHOLE, "whole"):
        with pytest.raises(ValueError, match=r"whole images need a ResNet.*choose grid"):
            Scorer(config, vit, device="cpu", crop_policy=policy)
    taken = Scorer(config, network(), device="cpu", crop_policy="whole").planner.policy
    assert taken == CropPolicy.whole(max_side=2048)


@pytest.mark.parametrize("size", [(1, 1), (50, 1), (7, 320), (224, 224), (333, 251)], ids=str)
def test_whole_images_of_any_shape_are_scored(size: tuple[int, int]) -> None:
    score = scorer().score(tiny.picture(*size))
    assert score.crops == 1
    assert 0 <= score.quality <= 1
    assert score.crop_quality == (score.quality,)


def test_whole_images_of_one_size_share_a_batch_and_keep_their_scores() -> None:
    ours = scorer()
    pictures = [tiny.picture(352, 224, seed) for seed in range(3)]
    crops = np.concatenate([ours.crops(picture) for picture in pictures])
    rows = ours.forward(crops, [2, 0, 1], [0, 0, 0])
    layout = ours.plan(352, 224)
    batched = [ours.reduce(rows[i : i + 1], layout).quality for i in (1, 2, 0)]
    single: list[Any] = [ours.score(picture).quality for picture in pictures]
    assert batched == pytest.approx(single, abs=1e-6)
    assert np.ptp(np.array(single, float)) > 1e-2  # so that equality means something


def test_the_whole_image_and_its_windows_are_seen_differently() -> None:
    image = tiny.picture(500, 300)
    whole, grid = scorer().score(image), scorer(CropPolicy()).score(image)
    assert (whole.crops, grid.crops) == (1, 6)
    assert whole.quality != pytest.approx(grid.quality, abs=1e-3)


def test_a_resnet_in_bfloat16_scores_near_float32() -> None:
    image = tiny.picture(352, 224)
    exact_, rounded = (scorer(dtype=d).score(image).quality for d in ("float32", "bfloat16"))
    assert rounded == pytest.approx(exact_, abs=0.03)
