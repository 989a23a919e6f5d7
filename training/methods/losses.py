"""Losses. Scores and targets lie in [0, 1]."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_TEMPERATURE = 0.1
# Opinions that are nearer to each other say nothing about the order.
_LEAST_GAP = 0.02
# Keeps the square root's slope finite at 0.
_TINY = 1e-8


def ranking(predicted: Tensor, target: Tensor, same: Tensor) -> Tensor:
    """Logistic loss on every pair of [n] that ``same`` [n, n] marks and whose targets differ enough
    (RankNet, Burges et al. 2005).
    """
    difference = (predicted[:, None] - predicted[None]) / _TEMPERATURE
    pairs = same & (target[:, None] - target[None] > _LEAST_GAP)
    return F.softplus(-difference[pairs]).mean() if pairs.any() else predicted.sum() * 0


def degradation(clean: Tensor, weaker: Tensor, stronger: Tensor, strengths: Tensor) -> Tensor:
    """Logistic loss on d pairs of degraded versions and on the stronger one beside the clean image
    (RankNet with a margin), of qualities [d] on an open scale, a logit say.

    Args:
        clean: of the images as they are.
        weaker: of their weaker degradation.
        stronger: of their stronger one.
        strengths: [d, 2]; twice their difference is the margin within a pair.
    """
    gap = 2 * (strengths[:, 1] - strengths[:, 0])
    pairs = F.softplus(gap - (weaker - stronger)).mean()
    return pairs + 0.5 * F.softplus(0.5 - (clean - stronger)).mean()


def fidelity(predicted: Tensor, target: Tensor, same: Tensor) -> Tensor:
    """Fidelity loss (Tsai et al., SIGIR 2007) on the pairs of [n] that ``same`` [n, n] marks."""
    p_hat = torch.sigmoid((predicted[:, None] - predicted[None]) / _TEMPERATURE)
    return _pairwise_fidelity(p_hat, target, same)


def thurstone_fidelity(predicted: Tensor, target: Tensor, same: Tensor) -> Tensor:
    """LIQE's quality loss (Zhang et al., CVPR 2023, Eq. 4 and 5) on the pairs of [n] that ``same``
    [n, n] marks: p_hat = Phi((q_i - q_j) / sqrt(2)).
    """
    p_hat = torch.special.ndtr((predicted[:, None] - predicted[None]) / math.sqrt(2))
    return _pairwise_fidelity(p_hat, target, same)


def _pairwise_fidelity(p_hat: Tensor, target: Tensor, same: Tensor) -> Tensor:
    p = ((target[:, None] > target[None]).float() + (target[:, None] >= target[None]).float()) / 2
    pairs = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    return binary_fidelity(p_hat[pairs], p[pairs]).mean() if pairs.any() else p_hat.sum() * 0


def binary_fidelity(p_hat: Tensor, p: Tensor) -> Tensor:
    """1 - sqrt(p p_hat) - sqrt((1 - p)(1 - p_hat)), element by element (LIQE's scene loss takes its
    mean over the scenes).
    """
    return 1 - (p * p_hat + _TINY).sqrt() - ((1 - p) * (1 - p_hat) + _TINY).sqrt()


def fidelity_of_classes(p_hat: Tensor, p: Tensor) -> Tensor:
    """1 - sum_c sqrt(p_c p_hat_c) of [n, c], element by element: LIQE's distortion loss."""
    return 1 - (p * p_hat + _TINY).sqrt().sum(-1)


def contrastive(images: Tensor, texts: Tensor, matches: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss for normalised [n, d] and [m, d]; ``matches`` [n, m] bool may mark
    several partners.
    """
    logits = scale * images @ texts.T
    each_way = [
        -(logits.log_softmax(dim).masked_fill(~matches, 0).sum(dim) / matches.sum(dim).clamp(min=1))
        for dim in (1, 0)
    ]
    return (each_way[0].mean() + each_way[1].mean()) / 2


def captioned(images: Tensor, texts: Tensor, own: Tensor, scale: Tensor, trust: Tensor) -> Tensor:
    """CLIP's loss both ways for normalised [n, d] and [m, d], m >= n's own texts.

    Args:
        images: n of them.
        texts: the images' own texts first, then such as belong to none of them.
        own: [n] each image's text.
        scale: of the logits.
        trust: [n] what each image counts, 0 to 1.
    """
    logits = scale * images @ texts.T
    shares = trust / trust.sum().clamp(min=_TINY)
    to_text = (shares * F.cross_entropy(logits, own, reduction="none")).sum()
    to_image = logits.log_softmax(0)[torch.arange(len(own), device=own.device), own]
    return (to_text - (shares * to_image).sum()) / 2


def shuffled_margin(matched: Tensor, shuffled: Tensor, shares: Tensor, margin: float) -> Tensor:
    """Mean relu(m - A(x, u) + A(x, u')), u' other images' prompts.

    Args:
        matched: [n] A(x, u).
        shuffled: [n, m] A(x, u').
        shares: [n, m] what each u' counts; rows add up to 1.
        margin: m.
    """
    return (shares * F.relu(margin - matched[:, None] + shuffled)).sum(1).mean()


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of [n, c] logits with soft targets [n, c] whose rows add up to 1; rows of zeros
    are left out.
    """
    known = targets.sum(1) > 0
    if not known.any():
        return logits.sum() * 0
    return F.cross_entropy(logits[known], targets[known])


def multi_hot(labels: Sequence[Sequence[str]], names: Sequence[str]) -> Tensor:
    """Soft targets [n, names]: each image's labels in equal shares; zeros where it has none."""
    hot = torch.tensor([[float(name in own) for name in names] for own in labels])
    return hot / hot.sum(1, keepdim=True).clamp(min=1)
