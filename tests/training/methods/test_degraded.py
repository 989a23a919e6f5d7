"""What trainings make of degraded images, and of parts of views."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from model.clip.backbone import build
from model.config import Architecture
from model.methods.registry import build_network
from model.methods.vocabulary import DISTORTIONS
from tests.training.runs import ARCHITECTURE
from training.methods.base import objective_type
from training.methods.losses import degradation
from training.methods.pretrain import Pretraining, PretrainWeights
from training.sampling.batches import Batch
from training.sampling.degraded import Degraded, Plan

STRENGTHS = torch.tensor([[0.2, 0.6]])


def test_the_loss_wants_clean_over_weak_over_strong_by_a_margin() -> None:
    def loss(*qualities: float) -> float:
        clean, weaker, stronger = (torch.tensor([q]) for q in qualities)
        return float(degradation(clean, weaker, stronger, STRENGTHS))

    assert loss(3, 0, -3) < loss(1, 0, -1) < loss(0, 0, 0) < loss(-1, 0, 1)
    assert loss(5, 0, -5) < 0.02


def test_the_margin_grows_with_the_difference_of_strengths() -> None:
    same = torch.zeros(1)
    near = degradation(same, same, same, torch.tensor([[0.4, 0.6]]))
    far = degradation(same, same, same, torch.tensor([[0.1, 0.9]]))
    assert near < far


def batch(words: int = 1) -> Batch:
    """Two images, of which the second is degraded."""
    plans = [Plan(1, "jpeg", (0.3, 0.9))] * words
    degraded = Degraded(torch.empty(0), None, plans)
    return cast(Batch, SimpleNamespace(degraded=degraded))


@pytest.fixture
def clip() -> Any:
    # From here no quality runs to the end of the scale, where its logit is cut off, on any machine.
    torch.manual_seed(2)
    return build(Architecture.model_validate(ARCHITECTURE))


@pytest.mark.parametrize("method", ["clip-agiqa", "mp-iqe", "clip-iqa-plus"])
def test_a_method_s_quality_learns_to_fall(method: str, clip: Any) -> None:
    torch.manual_seed(3)
    options = {"decoder_heads": 4, "decoder_layers": 1} if method == "mp-iqe" else {}
    network = build_network(method, clip, options)
    if method == "clip-iqa-plus":  # steep probabilities of nearly equal features saturate
        network.logit_scale.data.fill_(1.0)
    kind = objective_type(method)
    task = kind(network, kind.weights_type(), whole=True)
    images, worse = torch.randn(2, 1, 3, 32, 32), torch.randn(2, 1, 3, 32, 32)
    parameters = list(task.trained().values())
    optimiser = torch.optim.Adam(parameters, lr=0.01)

    def qualities() -> tuple[Any, Any]:
        return task.forward(images, images[:, 0]), task.forward(worse, worse[:, 0])

    for _ in range(30):
        losses = task.loss_of_degraded(*qualities(), batch())
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
    clean, of_worse = qualities()
    weaker, stronger = task.open_quality(of_worse)
    assert weaker > stronger
    assert task.open_quality(clean)[1] > stronger


def test_mp_iqe_is_told_the_distortion_s_name(clip: Any) -> None:
    network = build_network("mp-iqe", clip, {"decoder_heads": 4, "decoder_layers": 1})
    kind = objective_type("mp-iqe")
    task = kind(network, kind.weights_type(), whole=False)
    right, wrong = (torch.zeros(2, 1, len(DISTORTIONS)) for _ in range(2))
    right[..., DISTORTIONS.index("JPEG compression")] = 9.0
    wrong[..., DISTORTIONS.index("blur")] = 9.0
    score = torch.zeros(2, 1)
    losses = [
        float(
            task.loss_of_degraded(
                {"score": score}, {"score": score, "distortion": logits}, batch()
            )["degradation_kind"]
        )
        for logits in (right, wrong)
    ]
    assert losses[0] < 0.01 < losses[1]


def test_pre_training_wants_the_kind_s_word_and_the_order(clip: Any) -> None:
    task = Pretraining(clip, [], PretrainWeights())
    with torch.no_grad():
        texts = task._texts(["good photo.", "bad photo.", "a photo with JPEG compression"])
    good, bad, jpeg = texts
    clean = good.expand(2, 2, -1)
    falling = torch.stack([jpeg, bad])[:, None].expand(-1, 2, -1)
    right = task.loss_of_degraded({"views": clean}, {"views": falling}, batch())
    wrong = task.loss_of_degraded({"views": clean}, {"views": falling.flip(0)}, batch())
    assert right["degradation"] < wrong["degradation"]


def test_a_part_of_a_view_keeps_its_positions(clip: Any) -> None:
    """With every patch alike, a token differs from another by its position alone."""
    task = Pretraining(clip.eval(), [], PretrainWeights(), part=1)
    plain = torch.full((1, 3, 32, 32), 0.5)
    positions = clip.visual.positional_embedding
    with torch.no_grad():
        whole = task.vision.patchify(plain)[0] - positions
        seen = set()
        for seed in range(12):
            torch.manual_seed(seed)
            tokens = task._tokens(plain)[0]
            assert tokens.shape[0] == 2
            torch.testing.assert_close(tokens[0], whole[0] + positions[0])
            seen.add(tuple(tokens[1].tolist()))
    assert len(seen) == 4


def test_without_a_part_all_of_a_view_is_seen(clip: Any) -> None:
    task = Pretraining(clip.eval(), [], PretrainWeights())
    views = torch.randn(2, 3, 32, 32)
    assert torch.equal(task._tokens(views), task.vision.patchify(views))


def test_words_that_are_known_are_kept(clip: Any) -> None:
    task = Pretraining(clip, [], PretrainWeights(words=1.0), words=["cat", "dog", "tree"])
    assert task.meanings is not None
    assert float(task._drift(task.meanings).detach()) == pytest.approx(0, abs=1e-5)
    moved = task.meanings.roll(1, 0)
    assert float(task._drift(moved).detach()) > 1e-3


def test_captions_are_compared_with_other_prompts_too(clip: Any) -> None:
    task = Pretraining(clip, [], PretrainWeights(), prompts=["a cat", "a dog", "a tree"])
    assert set(task._prompts(["a cat", "a cat"])) == {"a cat", "a dog", "a tree"}
    assert task._prompts(["a cat"])[0] == "a cat"
    assert task._prompts([]) == []


def test_an_image_is_compared_with_the_names_of_what_its_stem_sees(clip: Any) -> None:
    names = [f"thing {i}" for i in range(1000)]
    task = Pretraining(clip, [], PretrainWeights(classes=1.0), class_names=names)
    with torch.no_grad():
        texts = task._texts(["thing 3", "thing 700"])
        shown = torch.zeros(2, 1000)
        shown[0, 3] = shown[1, 700] = 1.0
        right, wrong = task._classes(texts, shown), task._classes(texts.flip(0), shown)
    assert right < wrong
