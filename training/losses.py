"""Losses. Scores and targets lie in [0, 1]."""

import torch
from torch import Tensor
from torch.nn import functional as F


def ranking(
    predicted: Tensor, target: Tensor, temperature: float = 0.1, least: float = 0.02
) -> Tensor:
    """Logistic loss on every pair of [n] whose targets differ by more than ``least`` (RankNet,
    Burges et al. 2005).
    """
    difference = (predicted[:, None] - predicted[None]) / temperature
    gap = target[:, None] - target[None]
    pairs = gap > least
    return F.softplus(-difference[pairs]).mean() if pairs.any() else predicted.sum() * 0


def fidelity(predicted: Tensor, target: Tensor, same: Tensor, temperature: float = 0.1) -> Tensor:
    """Fidelity loss (Tsai et al., SIGIR 2007) on the pairs of [n] that ``same`` [n, n] marks."""
    p_hat = torch.sigmoid((predicted[:, None] - predicted[None]) / temperature)
    p = ((target[:, None] > target[None]).float() + (target[:, None] >= target[None]).float()) / 2
    pairs = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    if not pairs.any():
        return predicted.sum() * 0
    loss = 1 - (p * p_hat + 1e-8).sqrt() - ((1 - p) * (1 - p_hat) + 1e-8).sqrt()
    return loss[pairs].mean()


def contrastive(images: Tensor, texts: Tensor, matches: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss for normalised [n, d] and [m, d]; ``matches`` [n, m] bool may mark
    several partners.
    """
    logits = scale * images @ texts.T
    by_image = -(
        logits.log_softmax(1).masked_fill(~matches, 0).sum(1) / matches.sum(1).clamp(min=1)
    ).mean()
    by_text = -(
        logits.log_softmax(0).masked_fill(~matches, 0).sum(0) / matches.sum(0).clamp(min=1)
    ).mean()
    return (by_image + by_text) / 2


def shuffled_margin(matched: Tensor, shuffled: Tensor, margin: float = 0.1) -> Tensor:
    """Mean relu(m - A(x, u) + A(x, u')), u' another image's prompt."""
    return F.relu(margin - matched + shuffled).mean()
