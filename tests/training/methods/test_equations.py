"""Every training loss against its paper's equation, written anew in numpy and float64."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor
from torch.nn import functional as F

from model.methods.clip_agiqa import ClipAgiqa
from model.methods.clip_iqa_plus import ClipIqaPlus
from model.methods.consistency import ConsistencyHead
from model.methods.liqe import Liqe
from model.methods.mp_iqe import MpIqe
from model.methods.network import Network
from model.methods.registry import build_network
from model.methods.vocabulary import DISTORTIONS, LIQE_DISTORTIONS, LIQE_SCENES, SCENES
from tests.model import tiny
from training.data.samples import Sample
from training.engine.task import Outputs
from training.methods.base import objective_type
from training.sampling.batches import Batch

IMAGES, DIM = 6, tiny.ARCHITECTURE.embed_dim
SETS = ("LIVE", "CSIQ", "LIVE", "CSIQ", "LIVE", "LIVE")  # four and two
PROMPTS = ("a red fox", "a blue house") * 3
LABELS = (
    ("landscape",),
    ("animal", "human", "others"),
    ("night scene", "plant"),
    (),
    ("cityscape",),
    ("still-life", "indoor scene"),
)
KINDS = ("noise", "blur", "", "JPEG compression", "contrast", "blur")
MOS = (0.1, 0.9, 0.4, 0.35, 0.75, 0.4)
# One image without an opinion of its alignment.
ALIGN = (0.3, 0.8, math.nan, 0.5, 0.6, 0.5)

# LIQE's code adds it below every square root, where the slope would be infinite at 0.
EPSILON = 1e-8

Array = np.ndarray


def exact(x: Tensor) -> Array:
    return x.detach().double().numpy()


def batch() -> Batch:
    pixels = torch.zeros(IMAGES, 1, 3, 2, 2, dtype=torch.uint8)
    samples = [
        Sample(
            SETS[i], Path(f"{i}"), f"{i}", MOS[i], ALIGN[i], PROMPTS[i],
            scenes=LABELS[i], distortion=KINDS[i],
        )
        for i in range(IMAGES)
    ]  # fmt: skip
    return Batch(pixels, None, torch.tensor(MOS), torch.tensor(ALIGN), samples)


def network(method: str, **options: Any) -> Any:
    """With every learned number away from its start."""
    made: Network = build_network(method, tiny.random_clip(), options)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.trainable_parameters().values():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=noise))
        made.logit_scale.fill_(math.log(100))
    return made


def ours(net: Network, method: str, outputs: Outputs, **weights: float) -> dict[str, float]:
    """The terms of the loss, in float32 as training has them."""
    kind = objective_type(method)
    task = kind(net, kind.weights_type.model_validate(weights), whole=False)
    losses = task.loss(outputs, batch())
    return {name: float(value.detach()) for name, value in losses.items()}


def features(*shape: int) -> Tensor:
    noise = torch.Generator().manual_seed(2)
    return F.normalize(torch.randn(*shape, DIM, generator=noise), dim=-1)


def softmax(x: Array, axis: int = -1) -> Array:
    powers = np.exp(x - x.max(axis, keepdims=True))
    found: Array = powers / powers.sum(axis, keepdims=True)
    return found


def agree(found: Mapping[str, float], expected: Mapping[str, float]) -> None:
    assert found == pytest.approx(expected, rel=0, abs=1e-6)
    assert min(expected.values()) > 1e-4  # none is there for nothing


def antonyms(z: Array, pair: Array) -> Array:
    """softmax(s cos(z, t))[positive]."""
    positive, negative = (np.exp(100 * (z @ t)) for t in pair)
    found: Array = positive / (positive + negative)
    return found


def square(predicted: Array, wanted: Array) -> float:
    return float(np.mean((predicted - wanted) ** 2))


RATED = ~np.isnan(ALIGN)
TARGET, ALIGNED = (exact(torch.tensor(values)) for values in (MOS, ALIGN))


def test_clip_agiqa_s_loss() -> None:
    """L = MSE(quality, MOS) + 0.1 MSE(alignment, MOS_align)."""
    net: ClipAgiqa = network("clip-agiqa")
    z = features(IMAGES, 2, 1)
    no_head = {"consistency": 0.0, "shuffled_prompt": 0.0, "same_prompt_fidelity": 0.0}
    texts = net.text_features()
    assert texts.alignment is not None
    quality = antonyms(exact(z)[:, 0, 0], exact(texts.quality))
    alignment = antonyms(exact(z)[:, 1, 0], exact(texts.alignment))
    expected = {
        "quality": square(quality, TARGET),
        "alignment": 0.1 * square(alignment[RATED], ALIGNED[RATED]),
    }
    agree(ours(net, "clip-agiqa", {"z": z}, **no_head), expected)


def test_the_loss_of_the_head_for_the_user_s_prompt() -> None:
    """MSE(A, MOS_align) + mean relu(m - A(x, u) + A(x, u')) + fidelity within a prompt."""
    net: ClipAgiqa = network("clip-agiqa")
    head = net.consistency
    assert isinstance(head, ConsistencyHead)
    with torch.no_grad():  # a head that says neither 0 nor 1
        head.alpha.fill_(3.0)
        head.bias.fill_(0.2)
        head.kappa.fill_(2.0)
    views = features(IMAGES, 2, 3)  # two windows, and the whole image
    z = exact(views)[:, 1].mean(1)
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    texts = net.text_features().alignment
    assert texts is not None
    aligned, misaligned = exact(texts)
    number = {k: float(p.detach()) for k, p in head.named_parameters() if not p.ndim}
    delta, beta, gamma = (exact(p) for p in (head.delta, head.beta, head.gamma))

    def consistency(prompts: Sequence[str]) -> Array:
        t = exact(net.user_features(prompts))
        logit = (
            number["alpha"] * (z * (1 + delta) * t).sum(-1)
            + t @ beta
            + z @ gamma
            + number["kappa"] * (z @ aligned - z @ misaligned)
            + number["bias"]
        )
        found: Array = 1 / (1 + np.exp(-logit))
        return found

    matched = consistency(PROMPTS)
    shuffled = consistency([PROMPTS[i - 1] for i in range(IMAGES)])  # of two, the other one
    pairs = []
    for i in range(IMAGES):
        for j in range(IMAGES):
            if i != j and PROMPTS[i] == PROMPTS[j] and RATED[i] and RATED[j]:
                p_hat = 1 / (1 + math.exp(-(matched[i] - matched[j]) / 0.1))
                pairs.append(fidelity(truth(ALIGNED[i], ALIGNED[j]), p_hat))
    expected = {
        "consistency": 0.1 * square(matched[RATED], ALIGNED[RATED]),
        "shuffled_prompt": 0.1 * float(np.maximum(0, 0.1 - matched + shuffled).mean()),
        "same_prompt": 0.1 * float(np.mean(pairs)),
    }
    found = ours(net, "clip-agiqa", {"z": views})
    agree({name: found[name] for name in expected}, expected)


def truth(mine: float, other: float) -> float:
    return 0.5 if mine == other else float(mine > other)


def fidelity(p: float, p_hat: float) -> float:
    """1 - sqrt(p p_hat) - sqrt((1 - p)(1 - p_hat))."""
    return 1 - math.sqrt(p * p_hat + EPSILON) - math.sqrt((1 - p) * (1 - p_hat) + EPSILON)


def smooth_l1(difference: Array) -> float:
    """Eq. 16, averaged."""
    x = np.abs(difference)
    return float(np.where(x < 1, 0.5 * x**2, x - 0.5).mean())


def cross_entropy(logits: Array, labels: Sequence[Sequence[str]], names: Sequence[str]) -> float:
    """Eq. 9 and 11 without the 1/M: minus the mean of sum_c y_c log p_c over the crops of labelled
    images, an image's labels in equal shares.
    """
    log_p = np.log(softmax(logits))
    each = [
        -sum(log_p[image, crop, names.index(label)] / len(own) for label in own)
        for image, own in enumerate(labels)
        for crop in range(logits.shape[1])
        if own
    ]
    return float(np.mean(each))


def mp_iqe_outputs() -> Outputs:
    noise = torch.Generator().manual_seed(3)
    return {
        "score": torch.randn(IMAGES, 2, generator=noise),
        "scene": 3 * torch.randn(IMAGES, 2, len(SCENES), generator=noise),
        "distortion": 3 * torch.randn(IMAGES, 2, len(DISTORTIONS), generator=noise),
    }


def test_mp_iqe_s_loss() -> None:
    """L = L_scene + lambda1 L_distortion + lambda2 SmoothL1(S, MOS), every crop on its own."""
    outputs = mp_iqe_outputs()
    score, scene, distortion = (exact(outputs[name]) for name in outputs)
    kinds = [(kind,) if kind else () for kind in KINDS]
    expected = {
        "score": 0.5 * smooth_l1(score - TARGET[:, None]),
        "scene": cross_entropy(scene, LABELS, SCENES),
        "distortion": cross_entropy(distortion, kinds, DISTORTIONS),
    }
    net: MpIqe = network("mp-iqe")
    agree(ours(net, "mp-iqe", outputs), expected)
    literal = expected | {
        "score": 0.5 * smooth_l1(5 * score - 5 * TARGET[:, None]),
        "scene": expected["scene"] / 9,
        "distortion": expected["distortion"] / 11,
        "image_score": 0.25 * smooth_l1(5 * score.mean(1) - 5 * TARGET),
    }
    options = {"mean_over_classes": True, "label_scale": 5.0, "image_score": 0.25}
    agree(ours(net, "mp-iqe", outputs, **options), literal)


def test_clip_iqa_plus_s_loss() -> None:
    """MSE(quality, MOS) of one view."""
    net: ClipIqaPlus = network("clip-iqa-plus")
    z = features(IMAGES, 1)
    expected = square(antonyms(exact(z)[:, 0], exact(net.text_features())), TARGET)
    agree(ours(net, "clip-iqa-plus", {"z": z}), {"quality": expected})


def test_liqe_s_loss() -> None:
    """Fidelity of pairs within each set, of every scene, and of the distortions, off the joint
    probability of qualities, scenes and distortions.
    """
    noise = torch.Generator().manual_seed(4)
    logits = 4 * torch.randn(IMAGES, 5 * 9 * 11, generator=noise)
    joint = softmax(exact(logits)).reshape(IMAGES, 5, 9, 11)
    quality = sum(c * joint[:, c - 1].sum((1, 2)) for c in range(1, 6))
    by_set = [
        np.mean(
            [
                fidelity(truth(MOS[i], MOS[j]), norm.cdf((quality[i] - quality[j]) / math.sqrt(2)))
                for i in range(IMAGES)
                for j in range(IMAGES)
                if i != j and SETS[i] == SETS[j] == name
            ]
        )
        for name in ("LIVE", "CSIQ")
    ]
    scene, distortion = joint.sum((1, 3)), joint.sum((1, 2))
    scenes = [
        fidelity(float(name in LABELS[i]), scene[i, c])
        for i in range(IMAGES)
        for c, name in enumerate(LIQE_SCENES.values())
        if LABELS[i]
    ]
    words = list(LIQE_DISTORTIONS.values())
    distortions = [
        1
        - sum(
            math.sqrt((name == KINDS[i]) * distortion[i, d] + EPSILON)
            for d, name in enumerate(words)
        )
        for i in range(IMAGES)
        if KINDS[i]
    ]
    expected = {
        "quality": float(np.mean(by_set)),
        "scene": float(np.mean(scenes)),
        "distortion": float(np.mean(distortions)),
    }
    net: Liqe = network("liqe")
    agree(ours(net, "liqe", {"logits": logits}), expected)
