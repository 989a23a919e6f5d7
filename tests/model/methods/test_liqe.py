"""LIQE against its equations written out once more, and that the whole CLIP learns."""

import copy
import math
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from model.config import CLIP_NORMALISATION, CropPolicy
from model.errors import BackboneError
from model.methods.liqe import Liqe, LiqeOptions, Marginals, joint_texts, to_unit
from model.methods.network import Views
from model.methods.registry import build_network
from model.scorer import Scorer
from model.scores import Score
from tests.model import tiny
from tests.model.clip.test_prompts import plain_text_feature, sentence
from tests.model.clip.test_resnet import photographs, resnet_clip
from tests.model.methods.test_clip_iqa import plain_crop

# As LIQE's code has them; behind each the name that answers use.
QUALITIES = ["bad", "poor", "fair", "good", "perfect"]
SCENES = {
    "animal": "animal",
    "cityscape": "cityscape",
    "human": "human",
    "indoor": "indoor scene",
    "landscape": "landscape",
    "night": "night scene",
    "plant": "plant",
    "still_life": "still-life",
    "others": "others",
}
DISTORTIONS = {
    "jpeg2000 compression": "JPEG2000 compression",
    "jpeg compression": "JPEG compression",
    "noise": "noise",
    "blur": "blur",
    "color": "color-related",
    "contrast": "contrast",
    "overexposure": "over-exposure",
    "underexposure": "under-exposure",
    "spatial": "spatially-localized",
    "quantization": "quantization",
    "other": "others",
}


def network() -> Liqe:
    """With a logit scale near CLIP's own, so that the joint probability is far from flat."""
    clip: Any = tiny.random_clip()
    with torch.no_grad():
        clip.logit_scale.fill_(math.log(100))
    return Liqe(clip, LiqeOptions()).eval()


@pytest.fixture(scope="module")
def fixed() -> Liqe:
    """A network that tests must not change."""
    return network()


@pytest.fixture(scope="module")
def exact() -> Any:
    """Its CLIP in float64."""
    return network().double().text.text


@pytest.fixture(scope="module")
def plain_texts(exact: Any) -> Tensor:
    """Normalised features float64 [495, d] of the texts in the paper's order."""
    rows = []
    with torch.no_grad():
        for quality in QUALITIES:
            for scene in SCENES:
                for distortion in DISTORTIONS:
                    text = (
                        f"a photo of a {scene} with {distortion} artifacts, "
                        f"which is of {quality} quality"
                    )
                    z = plain_text_feature(exact, sentence(None, text, None))
                    rows.append(z / z.norm())
    return torch.stack(rows)


def plain_marginals(logits: list[float]) -> tuple[float, list[float], list[float]]:
    """Quality in 1..5, scenes and distortions of 495 logits, by one sum after another."""
    most = max(logits)
    exps = [math.exp(logit - most) for logit in logits]
    quality, scenes, distortions = 0.0, [0.0] * 9, [0.0] * 11
    for i, value in enumerate(exps):
        p = value / sum(exps)
        quality += (i // 99 + 1) * p
        scenes[i // 11 % 9] += p
        distortions[i % 11] += p
    return quality, scenes, distortions


def scorer_of(net: Liqe) -> Scorer:
    config = tiny.config_of(
        net.options,
        method="liqe",
        heads=("quality",),
        crop_policy=CropPolicy.liqe(),
        normalisation=CLIP_NORMALISATION,
    )
    return Scorer(config, net, device="cpu", dtype="float32")


def read(net: Liqe, z: Tensor, whole: Tensor | None = None) -> Score:
    return net.fold().read({"quality": Views(z, whole)})


def test_there_are_495_texts_in_the_papers_order() -> None:
    texts = joint_texts()
    assert len(texts) == len(set(texts)) == 495
    jpeg2000 = "a photo of a animal with jpeg2000 compression artifacts, which is of bad quality"
    assert texts[0] == jpeg2000
    assert texts[1] == jpeg2000.replace("jpeg2000", "jpeg")
    assert texts[11] == jpeg2000.replace("animal", "cityscape")
    assert texts[99] == jpeg2000.replace("bad", "poor")
    assert texts[-1] == "a photo of a others with other artifacts, which is of perfect quality"


def test_with_texts_of_quality_alone_it_expects_the_grade_and_names_nothing_else(
    exact: Any,
) -> None:
    """As the authors train on one data set: softmax over five, then the expectation."""
    clip = network().text.text
    net = Liqe(clip, LiqeOptions(texts="quality")).eval()
    plain = []
    for quality in QUALITIES:
        t = plain_text_feature(exact, sentence(None, f"a photo with {quality} quality", None))
        plain.append(t / t.norm())
    z = F.normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(1)), dim=-1)
    p = (100 * z.double() @ torch.stack(plain).T).mean(0).softmax(0).tolist()
    score = read(net, z)
    expected = sum((grade + 1) * share for grade, share in enumerate(p))
    assert score.quality == pytest.approx((expected - 1) / 4, abs=1e-4)
    assert (score.scene, score.distortion, len(score.crop_quality or ())) == (None, None, 4)


def test_text_features_are_those_of_plain_clip_for_each_of_the_495(plain_texts: Tensor) -> None:
    net = network().double()
    with torch.no_grad():
        ours = net.text_features()
    torch.testing.assert_close(ours, plain_texts, atol=1e-10, rtol=1e-10)
    assert torch.pdist(ours).min() > 1e-4  # no two of them could change places unseen


def test_logits_are_scaled_cosines(exact: Any, plain_texts: Tensor) -> None:
    net, x = network().double(), photographs(2).double()
    with torch.no_grad():
        ours = net.logits(x, net.text_features())
        z = exact.visual(x)
        scale = math.exp(float(exact.logit_scale))
        plain = [[scale * float(one @ t / one.norm()) for t in plain_texts] for one in z]
    torch.testing.assert_close(ours, torch.tensor(plain, dtype=ours.dtype), atol=1e-9, rtol=1e-9)


def test_an_image_is_scored_by_the_softmax_of_its_mean_logits(
    fixed: Liqe, exact: Any, plain_texts: Tensor
) -> None:
    image = tiny.picture(300, 224)
    crops = torch.stack([plain_crop(image, x, 0, 224, 224) for x in (0, 32, 64)])
    with torch.no_grad():
        z = F.normalize(exact.visual(crops), dim=-1)
    logits = 100 * z @ plain_texts.T
    quality, scenes, distortions = plain_marginals(logits.mean(0).tolist())
    score = scorer_of(copy.deepcopy(fixed)).score(image)
    assert score.quality == pytest.approx((quality - 1) / 4, abs=1e-5)
    scene = dict(zip(SCENES.values(), scenes, strict=True))
    assert score.scene == pytest.approx(scene, abs=1e-5)
    distortion = dict(zip(DISTORTIONS.values(), distortions, strict=True))
    assert score.distortion == pytest.approx(distortion, abs=1e-5)
    each = [(plain_marginals(one.tolist())[0] - 1) / 4 for one in logits]
    assert score.crop_quality == pytest.approx(each, abs=1e-5)
    assert (score.crops, score.alignment, score.attributes) == (3, None, None)


def test_logits_are_averaged_before_the_softmax_not_after(fixed: Liqe, plain_texts: Tensor) -> None:
    noise = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(4, 16, generator=noise), dim=-1)
    logits = 100 * z.double() @ plain_texts.T
    first = plain_marginals(logits.mean(0).tolist())[0]
    after = np.mean([plain_marginals(one.tolist())[0] for one in logits])
    assert abs(first - after) > 1e-2  # so that the order means something
    assert read(fixed, z).quality == pytest.approx((first - 1) / 4, abs=1e-5)


def test_an_image_is_not_its_crops_in_another_order(fixed: Liqe) -> None:
    z = F.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(1)), dim=-1)
    there: Any = read(fixed, z)
    back = read(fixed, z.flip(0))
    assert back.quality == pytest.approx(there.quality, abs=1e-5)
    assert back.crop_quality == pytest.approx(there.crop_quality[::-1], abs=1e-6)
    assert max(there.crop_quality) - min(there.crop_quality) > 1e-3


def test_the_global_view_counts_as_one_more_crop(fixed: Liqe) -> None:
    z = F.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(2)), dim=-1)
    with_view, windows = read(fixed, z[:2], z[2]), read(fixed, z)
    assert with_view.quality == windows.quality
    assert with_view.crop_quality == pytest.approx(windows.crop_quality[:2], abs=1e-6)
    assert (with_view.crops, windows.crops) == (2, 3)


@pytest.mark.parametrize(
    ("quality", "scene", "distortion"),
    [(0, 0, 0), (4, 8, 10), (2, 7, 1), (1, 3, 6)],
    ids=["first", "last", "still-life-jpeg", "indoor-overexposure"],
)
def test_a_certain_text_gives_its_quality_scene_and_distortion(
    quality: int, scene: int, distortion: int
) -> None:
    logits = torch.zeros(2, 495)
    logits[1, quality * 99 + scene * 11 + distortion] = 200.0
    flat, sure = Marginals.of(logits), Marginals.of(logits[1])
    assert sure.quality.item() == pytest.approx(quality + 1)
    assert sure.scene.argmax().item() == scene
    assert sure.distortion.argmax().item() == distortion
    assert sure.scene.max().item() == pytest.approx(1)
    assert flat.quality[0].item() == pytest.approx(3)
    assert flat.scene[0].tolist() == pytest.approx([1 / 9] * 9)
    assert flat.distortion[0].tolist() == pytest.approx([1 / 11] * 11)


def test_marginals_of_any_logits_are_probabilities_and_a_grade() -> None:
    logits = 300 * torch.randn(200, 495, generator=torch.Generator().manual_seed(0))
    marginals = Marginals.of(logits)
    for p in (marginals.scene, marginals.distortion):
        assert (p >= 0).all()
        torch.testing.assert_close(p.sum(1), torch.ones(200), atol=1e-5, rtol=0)
    assert marginals.quality.min() > 1 - 1e-5
    assert marginals.quality.max() < 5 + 1e-5
    assert marginals.quality.max() - marginals.quality.min() > 2


@pytest.mark.parametrize("grade", [1, 5])
def test_rounding_leaves_no_score_outside_of_0_to_1(grade: int) -> None:
    net = network()
    folded = net.fold()
    folded.texts = -torch.ones(495, 16) / 4
    folded.texts[(grade - 1) * 99 : grade * 99] *= -1  # all of one grade fit perfectly
    view = Views(torch.ones(3, 16) / 4, None)
    score: Any = folded.read({"quality": view})
    assert score.quality == pytest.approx((grade - 1) / 4, abs=1e-6)
    assert all(0 <= q <= 1 for q in (score.quality, *score.crop_quality))
    assert to_unit(torch.tensor([1 - 1e-5, 2.0, 5 + 1e-5])).tolist() == [0, 0.25, 1]


def test_folding_changes_no_score(fixed: Liqe) -> None:
    x = photographs(3)
    with torch.no_grad():
        unfolded = Marginals.of(fixed.logits(x, fixed.text_features()).mean(0))
        rows = fixed.fold()(x, torch.tensor([0, 1, 2]), torch.zeros(3, dtype=torch.long))
    score = read(fixed, rows)
    assert score.quality == pytest.approx((unfolded.quality.item() - 1) / 4, abs=1e-5)
    assert list(score.scene.values()) == pytest.approx(unfolded.scene.tolist(), abs=1e-5)
    assert list(score.distortion.values()) == pytest.approx(unfolded.distortion.tolist(), abs=1e-5)


def loss(net: Liqe) -> Tensor:
    marginals = Marginals.of(net.logits(photographs(2), net.text_features()).mean(0))
    return (marginals.quality - 4) ** 2 - marginals.scene[0].log() - marginals.distortion[0].log()


def test_both_towers_learn_wholly_and_the_logit_scale_does_not() -> None:
    clip: Any = tiny.random_clip()
    net = Liqe(clip, LiqeOptions()).train()
    loss(net).backward()
    everything = {id(p): n for n, p in clip.named_parameters() if n != "logit_scale"}
    assert {id(p) for p in net.trainable_parameters().values()} == everything.keys()
    assert [n for n, p in clip.named_parameters() if not p.requires_grad] == ["logit_scale"]
    reached = {id(p) for p in clip.parameters() if p.grad is not None and p.grad.any()}
    assert {everything[i] for i in everything.keys() - reached} == set()
    # Of these two, what no text says or reaches stays as it is.
    positions, table = clip.positional_embedding.grad, clip.token_embedding.weight.grad
    lengths = [len(sentence(None, text, None)) for text in joint_texts()]
    used = {token for text in joint_texts() for token in sentence(None, text, None)}
    assert positions.abs().sum(1).nonzero().flatten().tolist() == list(range(max(lengths)))
    assert set(table.abs().sum(1).nonzero().flatten().tolist()) == used


def test_a_logit_bias_takes_no_part() -> None:
    """It is the one parameter that a CLIP of open_clip may have and LIQE does not use."""
    settings = tiny.open_clips(tiny.ARCHITECTURE)
    clip: Any = open_clip.CLIP(**settings, init_logit_bias=-10.0)
    net = Liqe(clip, LiqeOptions())
    loss(net).backward()
    assert not any(name.endswith("logit_bias") for name in net.trainable_parameters())
    assert all(p.grad is not None for p in net.trainable_parameters().values())


def test_the_whole_clip_is_in_training_mode_and_its_statistics_move() -> None:
    net = network().train()
    assert all(module.training for module in net.modules())
    before = copy.deepcopy(net.state_dict())
    net.logits(photographs(2), torch.zeros(495, 16))
    moved = {n for n, value in net.state_dict().items() if not torch.equal(value, before[n])}
    assert any(name.endswith("running_mean") for name in moved)
    assert not any(module.training for module in net.eval().modules())


def test_a_step_against_the_gradient_lowers_the_loss() -> None:
    net = network()
    optimizer = torch.optim.SGD(net.trainable_parameters().values(), lr=1e-4)
    before = loss(net)
    before.backward()
    optimizer.step()
    with torch.no_grad():
        assert loss(net).item() < before.item()


def test_a_checkpoint_keeps_nothing_beside_the_backbone(fixed: Liqe) -> None:
    assert fixed.stored() == {}
    assert len(fixed.trainable_parameters()) == len(list(fixed.parameters())) - 1  # the logit scale


def test_a_resnet_and_unknown_options_are_refused() -> None:
    with pytest.raises(BackboneError, match="found ModifiedResNet"):
        build_network("liqe", resnet_clip(), {})
    with pytest.raises(ValidationError, match="context_length"):
        build_network("liqe", tiny.random_clip(), {"context_length": 8})


def test_a_users_prompt_neither_counts_nor_is_embedded(fixed: Liqe) -> None:
    scorer = scorer_of(copy.deepcopy(fixed))
    image = tiny.picture(224, 224)
    assert scorer.score(image, "a cat") == scorer.score(image)
    with pytest.raises(TypeError, match="no features of users' prompts"):
        scorer.embed(["a cat"])
