"""CLIP-IQA+ against its equations written out once more, and that its context alone learns."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from model.config import CropPolicy, Head
from model.methods.clip_iqa import ClipIqa, ClipIqaOptions
from model.methods.clip_iqa_plus import ClipIqaPlus, ClipIqaPlusOptions
from model.methods.network import Views
from model.scorer import Scorer
from tests.model import tiny
from tests.model.clip.test_prompts import plain_text_feature, sentence
from tests.model.clip.test_resnet import photographs, plain_resnet_feature
from tests.model.methods.test_clip_iqa import CLIPS, every_backbone, plain_probability, scorer_of

GOOD, BAD = "Good photo.", "Bad photo."


def network(backbone: str = "vit", length: int = 16) -> ClipIqaPlus:
    """With a context as far from zero as words are, so that every vector of it matters."""
    net = ClipIqaPlus(CLIPS[backbone](), ClipIqaPlusOptions(context_length=length)).eval()
    noise = torch.Generator().manual_seed(4)
    with torch.no_grad():
        net.context.copy_(0.2 * torch.randn(net.context.shape, generator=noise))
    return net


def image_features(net: ClipIqaPlus, x: Tensor) -> Tensor:
    return F.normalize(net.vision.encode(net.vision.patchify(x)), dim=-1)


def plain_pair(clip: Any, context: Tensor) -> list[Tensor]:
    """Both classes' features: 8 vectors, the words, 8 vectors."""
    return [
        plain_text_feature(clip, sentence(context[:8], words, context[8:])) for words in (GOOD, BAD)
    ]


def test_eight_vectors_stand_before_the_words_of_both_classes_and_eight_behind() -> None:
    net = network().double()
    with torch.no_grad():
        plain = torch.stack(plain_pair(net.text.text, net.context))
        plain = plain / plain.norm(dim=1, keepdim=True)
        torch.testing.assert_close(net.text_features(), plain, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    ("length", "before"), [(1, 0), (2, 1), (5, 2), (16, 8), (17, 8)], ids=lambda n: str(n)
)
def test_half_of_the_context_rounded_down_stands_before_the_words(length: int, before: int) -> None:
    net = network(length=length).double()
    v = net.context
    with torch.no_grad():
        for ours, words in zip(net.text_features(), (GOOD, BAD), strict=True):
            row = sentence(v[:before], words, v[before:])
            plain = F.normalize(plain_text_feature(net.text.text, row), dim=0)
            torch.testing.assert_close(ours, plain, atol=1e-10, rtol=1e-10)


@every_backbone
def test_quality_is_equation_2_of_the_prompted_texts(backbone: str) -> None:
    net = network(backbone).double()
    exact: Any = net.text.text
    x = photographs(3).double()
    with torch.no_grad():
        ours = net.probability(image_features(net, x))
        texts = plain_pair(exact, net.context)
        if backbone == "resnet":
            z = [plain_resnet_feature(exact.visual, one) for one in x]
        else:
            z = list(exact.visual(x))
        plain = [plain_probability(exact, one, *texts) for one in z]
    assert ours.tolist() == pytest.approx(plain, abs=1e-10)
    assert max(plain) - min(plain) > 1e-4


def test_an_image_scores_the_mean_of_its_windows() -> None:
    net, image = network(), tiny.picture(300, 224)
    boxes = [image.crop((x, 0, x + 224, 224)) for x in (0, 76)]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = torch.stack([(torch.tensor(np.array(box)) / 255 - mean) / std for box in boxes])
    with torch.no_grad():
        each = net.probability(image_features(net, x.permute(0, 3, 1, 2)))
    config = tiny.config_of(net.options, method="clip-iqa-plus", heads=("quality",))
    score = Scorer(config, net, device="cpu", dtype="float32").score(image)
    assert score.crop_quality == pytest.approx(each.tolist(), abs=1e-5)
    assert score.quality == pytest.approx(float(each.mean()), abs=1e-5)
    assert (score.crops, score.attributes, score.alignment) == (2, None, None)


@every_backbone
def test_the_context_alone_learns(backbone: str) -> None:
    net = network(backbone).train()
    before = copy.deepcopy(net.state_dict())
    ((net.probability(image_features(net, photographs(2))) - 1) ** 2).mean().backward()
    reached = {n for n, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == set(net.trainable_parameters()) == set(net.stored()) == {"context"}
    assert {n for n, p in net.named_parameters() if p.requires_grad} == {"context"}
    assert (net.context.grad.abs().sum(1) > 0).all()  # each of the sixteen vectors
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name  # batch norms keep their statistics


def test_every_vector_counts_for_both_classes() -> None:
    net = network()
    own, noise = net.context.detach().clone(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = net.text_features()
        for vector in range(16):
            net.context[vector] += torch.randn(16, generator=noise)
            after = net.text_features()
            assert ((after - before).abs().amax(1) > 1e-3).all(), vector
            net.context.copy_(own)


def test_a_new_context_is_drawn_as_the_paper_does() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ClipIqaPlus(CLIPS["vit"](), ClipIqaPlusOptions())
        wide = ClipIqaPlus(CLIPS["vit"](), ClipIqaPlusOptions(init_std=1.0, context_length=64))
    assert net.context.shape == (16, 16)
    assert net.context.std().item() == pytest.approx(0.02, rel=0.15)
    assert net.context.mean().item() == pytest.approx(0, abs=0.005)
    assert wide.context.std().item() == pytest.approx(1, rel=0.15)


def test_training_the_context_moves_the_score_to_its_target() -> None:
    net, x = network().train(), photographs(2)
    targets = torch.tensor([0.9, 0.9])
    with torch.no_grad():
        z = image_features(net, x)
    optimizer = torch.optim.Adam(net.trainable_parameters().values(), lr=0.02)
    losses = []
    for _ in range(40):
        loss = F.mse_loss(net.probability(z), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@every_backbone
def test_folding_changes_no_score(backbone: str) -> None:
    net, x = network(backbone), photographs(3)
    with torch.no_grad():
        z = image_features(net, x)
        each = net.probability(z)
        folded = net.fold()
        rows = folded(x, torch.tensor([0, 1, 2]), torch.zeros(3, dtype=torch.long))
        score = folded.read({"quality": Views(rows, None)})
    torch.testing.assert_close(rows, z, atol=1e-5, rtol=1e-5)
    assert score.crop_quality == pytest.approx(each.tolist(), abs=1e-5)
    assert score.quality == pytest.approx(float(each.mean()), abs=1e-5)


def test_a_folded_network_does_not_follow_later_training() -> None:
    net = network()
    views: dict[Head, Views] = {"quality": Views(F.normalize(torch.ones(2, 16), dim=-1), None)}
    folded = net.fold()
    before: Any = folded.read(views)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        net.context.add_(torch.randn(net.context.shape, generator=noise))
    assert folded.read(views) == before
    after: Any = net.fold().read(views)
    assert abs(after.quality - before.quality) > 1e-4


def test_without_its_context_it_is_clip_iqa() -> None:
    """Words alone, as if the context had no vectors: the two methods share everything else."""
    net, image = network(), tiny.picture(224, 224)
    plain = ClipIqa(CLIPS["vit"](), ClipIqaOptions(attributes=()))
    wanted: Any = scorer_of(plain, CropPolicy()).score(image)
    net.context = torch.nn.Parameter(torch.empty(0, 16))
    assert scorer_of(net, CropPolicy()).score(image).quality == pytest.approx(
        wanted.quality, abs=1e-6
    )
    assert math.isfinite(wanted.quality)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"context_length": 0}, "context_length"),
        ({"context_length": "many"}, "context_length"),
        ({"position": "middle"}, "position"),
    ],
    ids=["no-context", "no-number", "unknown"],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ClipIqaPlusOptions(**options)
