"""Grad-CAM and roll-out: against hand-made networks, slow versions, and the scorer."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from model.clip.towers import VisionTower, attention_weights, run_block
from model.config import CropPolicy
from model.errors import BackboneError
from model.methods.antonyms import positive_probability
from model.methods.clip_iqa import ClipIqa, ClipIqaOptions
from tests.model import tiny
from tests.model.clip.test_resnet import resnet_clip
from tests.training.research.explain.subjects import (
    CASES,
    METHODS,
    POLICY,
    config_of,
    fond_of_brightness,
    network_of,
    scorer_of,
    subject_of,
)
from training.research.explain.cam import explain, roll_out, tokens_entering, weigh_tokens
from training.research.explain.stitching import lay_back
from training.research.explain.subject import Subject

PICTURE = tiny.picture(400, 260)
PROMPT = "a dog, two cats"

every_case = pytest.mark.parametrize(("name", "head"), CASES)
every_kind = pytest.mark.parametrize("kind", ["grad-cam", "roll-out"])


# What holds for every method.


@every_kind
@every_case
def test_what_is_explained_is_exactly_the_scorers_score(name: str, head: Any, kind: Any) -> None:
    score = scorer_of(name).score(PICTURE, prompt=PROMPT, heads=(head,))
    assert 0.01 < getattr(score, head) < 0.99
    found = explain(subject_of(name), PICTURE, head, kind, PROMPT)
    assert found.score == pytest.approx(getattr(score, head), abs=1e-6)
    assert (found.model, found.head, found.kind) == (name, head, kind)


@every_kind
@every_case
def test_a_map_has_the_images_size_and_lies_between_0_and_1(
    name: str, head: Any, kind: Any
) -> None:
    found = explain(subject_of(name), PICTURE, head, kind, PROMPT)
    assert found.map.shape == (260, 400)
    assert found.map.dtype == np.float32
    assert found.map.min() >= 0
    assert found.map.max() == pytest.approx(1)
    assert found.map.std() > 0.01


@pytest.mark.parametrize("name", METHODS)
def test_explaining_leaves_no_hook_and_no_gradient_behind(name: str) -> None:
    subject = subject_of(name)
    first = explain(subject, PICTURE)
    again = explain(subject, PICTURE)
    assert np.array_equal(first.map, again.map)
    assert not any(m._forward_pre_hooks for m in subject.tower.modules())
    assert not any(p.requires_grad or p.grad is not None for p in subject.tower.parameters())


def test_a_gradient_is_had_where_the_caller_switched_gradients_off() -> None:
    subject = subject_of("clip-agiqa")
    with torch.no_grad():
        found = explain(subject, PICTURE)
    assert np.array_equal(found.map, explain(subject, PICTURE).map)


def test_another_prompt_moves_the_map_of_consistency() -> None:
    subject = subject_of("clip-agiqa")
    one, other = (explain(subject, PICTURE, "consistency", prompt=p) for p in (PROMPT, "a tree"))
    assert np.abs(one.map - other.map).max() > 0.01
    assert one.score != other.score


# Refusals.


def test_a_resnet_is_refused_by_name() -> None:
    config = config_of("clip-iqa", crop_policy=CropPolicy.whole())
    with pytest.raises(BackboneError, match=r"ViT image tower \(found ModifiedResNet\)"):
        Subject(config, ClipIqa(resnet_clip(), ClipIqaOptions()), device="cpu")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("clip-iqa", {"head": "alignment"}, "has no head 'alignment'"),
        ("clip-agiqa", {"head": "consistency"}, "consistency needs the prompt"),
        ("clip-agiqa", {"layer": 2}, "there is no layer 2; the image tower has 2"),
        ("clip-agiqa", {"layer": -3}, "there is no layer -3"),
    ],
)
def test_what_can_not_be_explained_is_said(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        explain(subject_of(name), PICTURE, **options)


# Grad-CAM.


def with_patches(**shades: int) -> Image.Image:
    """Grey, 7 x 7 patches, some of another shade: r2c5=200 is the third row, the sixth column."""
    pixels = np.full((7, 7, 3), 128, np.uint8)
    for place, shade in shades.items():
        pixels[int(place[1]), int(place[3])] = shade
    return Image.fromarray(pixels).resize((224, 224), Image.Resampling.NEAREST)


def middles(map_: np.ndarray) -> np.ndarray:
    """The map in the middle of each of 7 x 7 patches."""
    return map_[16::32, 16::32]


def test_the_one_patch_that_raises_the_score_is_where_the_map_peaks() -> None:
    found = explain(fond_of_brightness(), with_patches(r2c5=200, r4c1=60))
    assert explain(fond_of_brightness(), with_patches(r2c5=200)).score > found.score
    wanted = np.zeros((7, 7))
    wanted[2, 5] = 1
    near = middles(found.map)
    assert np.unravel_index(found.map.argmax(), found.map.shape) == pytest.approx((79, 175), abs=1)
    assert near == pytest.approx(wanted, abs=0.02)


def test_the_brighter_of_two_patches_counts_for_more() -> None:
    near = middles(explain(fond_of_brightness(), with_patches(r0c1=178, r6c3=228)).map)
    assert near[6, 3] / near[0, 1] == pytest.approx(2, abs=0.05)


def test_a_map_is_empty_where_nothing_raises_the_score() -> None:
    found = explain(fond_of_brightness(), with_patches(r2c5=20))
    assert found.map.max() == 0


def test_channels_are_weighed_with_the_mean_gradient_and_negative_sums_are_cut() -> None:
    tokens = torch.tensor([[[1.0, 2.0], [3.0, -4.0], [0.0, 1.0]]])
    gradient = torch.tensor([[[2.0, 0.0], [1.0, 3.0], [0.0, 3.0]]])  # means 1 and 2
    assert weigh_tokens(tokens, gradient).tolist() == [[5.0, 0.0, 2.0]]


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_grad_cam_is_the_gradient_of_the_images_score_written_out(layer: int) -> None:
    """CLIP-AGIQA's quality of six windows and the whole image, layer by layer."""
    network: Any = network_of("clip-agiqa")
    subject = subject_of("clip-agiqa")
    with torch.no_grad():
        prompts, classes = network.visual_prompts()[0], network.text_features().quality
        weight = torch.sigmoid(network.global_logit)[0]
    crops = subject.crops(PICTURE, "quality")
    assert len(crops.pixels) == 7
    total, maps = [], []
    for pixels in crops.pixels:
        tokens, z = slow_features(network.vision, pixels[None], prompts, layer % 2)
        total.append((tokens, positive_probability(z[0], classes, network.logit_scale.exp())))
    each = torch.stack([p for _, p in total])
    score = (1 - weight) * each[:6].mean() + weight * each[6]
    for tokens, _ in total:
        (gradient,) = torch.autograd.grad(score, tokens, retain_graph=True)
        a = gradient[0, 1:50].mean(0)
        maps.append((tokens[0, 1:50] @ a).relu().detach().view(7, 7))
    wanted = lay_back(torch.stack(maps), crops.layout.grid, PICTURE.size)
    found = explain(subject, PICTURE, layer=layer)
    assert found.score == pytest.approx(float(score.detach()), abs=1e-6)
    assert found.map == pytest.approx(wanted / wanted.max(), abs=1e-4)


def slow_features(
    tower: VisionTower, pixels: Tensor, prompts: Tensor, watched: int
) -> tuple[Tensor, Tensor]:
    """The tokens that enter a layer, and the normalised features that come of them."""
    x = tower.visual.ln_pre(torch.cat([tower.patchify(pixels), prompts[:1]], dim=1))
    for layer, block in enumerate(tower.visual.transformer.resblocks):
        if layer:
            x = torch.cat([x[:, :50], prompts[layer : layer + 1]], dim=1)
        if layer == watched:
            x = seen = x.detach().requires_grad_()
        x = run_block(block, x)
    return seen, F.normalize(tower.visual.ln_post(x[:, 0]) @ tower.visual.proj, dim=-1)


# Roll-out.


def test_roll_out_is_the_product_of_layers_with_prompts_left_out() -> None:
    """Two tokens and a prompt, by hand: rows (.2, .2 | .6) become (.5, .5), and so on."""
    first = torch.tensor([[[0.2, 0.2, 0.6], [0.1, 0.3, 0.6], [0.0, 0.0, 1.0]]])
    second = torch.tensor([[[0.3, 0.1, 0.6], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]])
    a = np.array([[0.75, 0.25], [0.125, 0.875]])
    b = np.array([[0.875, 0.125], [0.25, 0.75]])
    rolled = roll_out([first, second], kept=2)[0].numpy()
    assert rolled == pytest.approx(b @ a, abs=1e-6)
    assert not np.allclose(rolled, a @ b, atol=1e-3)


@pytest.mark.parametrize("name", ["clip-agiqa", "mp-iqe-shallow", "liqe"])
def test_rows_of_roll_out_sum_to_one(name: str) -> None:
    subject = subject_of(name)
    crops = subject.crops(PICTURE, "quality")
    blocks = list(subject.tower.visual.transformer.resblocks)
    with torch.no_grad(), tokens_entering(blocks) as seen:
        subject.rows(crops.pixels, crops.layout)
    attentions = [attention_weights(b, x) for b, x in zip(blocks, seen, strict=True)]
    assert [len(a[0]) - 50 for a in attentions] == [{"liqe": 0}.get(name, 2)] * 2
    rolled = roll_out(attentions, 50)
    assert rolled.shape == (7, 50, 50)
    assert rolled.sum(-1).numpy() == pytest.approx(1, abs=1e-5)


def test_attention_weights_are_those_of_torchs_own_attention() -> None:
    clip: Any = tiny.random_clip()
    (block, _) = clip.visual.transformer.resblocks
    x = torch.randn(3, 9, 32)
    with torch.no_grad():
        normed = block.ln_1(x)
        _, wanted = block.attn(normed, normed, normed, need_weights=True)
        torch.testing.assert_close(attention_weights(block, x), wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "share"), [("clip-agiqa", None), ("liqe", 1 / 7)])
def test_the_map_of_roll_out_mixes_windows_and_whole_as_the_score_does(
    name: str, share: float | None
) -> None:
    network, subject = network_of(name), subject_of(name)
    if share is None:
        share = 1 / (1 + math.exp(-float(network.global_logit.detach()[0])))
        assert abs(share - 0.5) > 1e-3
    crops = subject.crops(PICTURE, "quality")
    blocks = list(subject.tower.visual.transformer.resblocks)
    with torch.no_grad(), tokens_entering(blocks) as seen:
        subject.rows(crops.pixels, crops.layout)
    attention = [attention_weights(b, x) for b, x in zip(blocks, seen, strict=True)]
    each = roll_out(attention, 50)[:, 0, 1:].view(7, 7, 7)
    windows = (each[:6] - each[:6].min()) * (1 - share) / 6
    whole = (each[6:] - each[6:].min()) * share
    wanted = lay_back(torch.cat([windows, whole]), crops.layout.grid, PICTURE.size)
    found = explain(subject, PICTURE, kind="roll-out")
    assert found.map == pytest.approx(wanted / wanted.max(), abs=1e-5)


def test_many_views_are_rolled_out_in_parts_as_if_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = explain(subject_of("mp-iqe"), PICTURE, kind="roll-out")
    monkeypatch.setattr("training.research.explain.cam._CHUNK", 3)
    parts = explain(subject_of("mp-iqe"), PICTURE, kind="roll-out")
    assert parts.score == pytest.approx(whole.score, abs=1e-6)
    assert parts.map == pytest.approx(whole.map, abs=1e-5)


def test_without_a_global_view_the_windows_are_all_there_is() -> None:
    alone = POLICY.model_copy(update={"global_view": False})
    subject = subject_of("clip-agiqa", crop_policy=alone)
    assert not subject.crops(PICTURE, "quality").has_whole
    assert subject.crops(PICTURE, "consistency").has_whole
    for kind in ("grad-cam", "roll-out"):
        found = explain(subject, PICTURE, kind=kind)
        score = scorer_of("clip-agiqa", crop_policy=alone).score(PICTURE, heads=("quality",))
        assert found.score == pytest.approx(score.quality, abs=1e-6)


def test_random_windows_are_explained_where_the_file_is_scored(tmp_path: Path) -> None:
    file = tmp_path / "photograph.png"
    PICTURE.save(file)
    policy = CropPolicy.random()
    subject = subject_of("mp-iqe", crop_policy=policy)
    scorer = scorer_of("mp-iqe", crop_policy=policy)
    assert explain(subject, file).score == pytest.approx(scorer.score(file).quality, abs=1e-5)
    placed = subject.crops(file, "quality").layout.grid
    assert placed == scorer.planner.for_file(file.read_bytes()).plan(*PICTURE.size).grid
    assert placed != subject.crops(PICTURE, "quality").layout.grid
