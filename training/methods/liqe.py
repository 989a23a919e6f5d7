"""Full fine-tuning of LIQE (Zhang et al., CVPR 2023, section 3.3) with its three fidelity losses:
quality on pairs within each data set, scenes as a multi-label problem, distortion as classes.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor

from model.methods.liqe import Liqe, Marginals, to_unit
from model.methods.vocabulary import LIQE_DISTORTIONS, LIQE_SCENES
from training.engine.history import Epoch
from training.engine.task import Losses, Outputs
from training.methods.base import LossWeights, Objective
from training.methods.losses import (
    binary_fidelity,
    fidelity_of_classes,
    multi_hot,
    thurstone_fidelity,
)
from training.sampling.batches import Batch

_TASKS = ("quality", "scene", "distortion")


class LiqeWeights(LossWeights):
    """Weights of the three tasks. ``deviation``: that of the difference of two images' qualities:
    sqrt 2 in the paper's equation, 1 in its code. ``temperature`` of the dynamic weight average,
    which multiplies them; 0: it is left out.
    """

    quality: float = 1.0
    scene: float = 1.0
    distortion: float = 1.0
    deviation: float = Field(default=math.sqrt(2), gt=0)
    temperature: float = Field(default=0.0, ge=0)


class LiqeObjective(Objective[Liqe]):
    """Every parameter of the CLIP learns, so its texts are encoded anew for every batch."""

    weights_type = LiqeWeights

    def hidden_maps(self) -> Sequence[Tensor]:
        """Those of both towers."""
        return [*self.network.vision.hidden_maps(), *self.network.text.hidden_maps()]

    def forward(self, windows: Tensor, wholes: Tensor | None) -> Outputs:
        """``logits`` [n, 495], averaged over the views."""
        views = self.views(windows, wholes)
        logits = self.network.logits(views.flatten(0, 1), self.network.text_features())
        return {"logits": logits.float().unflatten(0, views.shape[:2]).mean(1)}

    def loss(self, outputs: Outputs, batch: Batch) -> Losses:
        """The three fidelity losses; scenes and distortion on the images that tell them."""
        marginals = Marginals.of(outputs["logits"])
        w = self.weights
        # The loss divides differences by sqrt 2.
        ratings = marginals.quality * (math.sqrt(2) / w.deviation)
        losses = {"quality": w.quality * within_sets(ratings, batch.mos, batch.same_set)}
        if marginals.scene.shape[-1] == 1:  # the texts name neither
            return losses
        device = batch.mos.device
        labels = [sample.scenes for sample in batch.samples]
        # A scene counts with its whole probability: this is no share of a sum.
        scenes = multi_hot(labels, list(LIQE_SCENES.values())).to(device) > 0
        if (rows := scenes.any(1)).any():
            each = binary_fidelity(marginals.scene[rows], scenes[rows].float())
            losses["scene"] = w.scene * each.mean()
        words = [(sample.distortion,) for sample in batch.samples]
        distortions = multi_hot(words, list(LIQE_DISTORTIONS.values())).to(device)
        if (rows := distortions.any(1)).any():
            each = fidelity_of_classes(marginals.distortion[rows], distortions[rows])
            losses["distortion"] = w.distortion * each.mean()
        return losses

    def balance(self, history: Sequence[Epoch]) -> Mapping[str, float]:
        """The dynamic weight average, from the third epoch on."""
        if not self.weights.temperature or len(history) < 2:
            return {}
        before, last = history[-2:]
        tasks = [task for task in _TASKS if task in before and task in last]
        return dynamic_weights(
            {task: before[task] for task in tasks},
            {task: last[task] for task in tasks},
            self.weights.temperature,
        )

    def quality(self, outputs: Outputs) -> Tensor:
        return to_unit(Marginals.of(outputs["logits"]).quality)


def within_sets(predicted: Tensor, target: Tensor, same: Tensor) -> Tensor:
    """The pairs' loss of each data set, averaged over those that have pairs: a set of many images
    counts no more than one of few. ``same`` [n, n] marks which images of [n] are of one set.
    """
    first = same.float().argmax(1)  # of each image's set, by place
    sets = [row.nonzero()[:, 0] for row in same[first.unique()]]
    each = [
        thurstone_fidelity(predicted[rows], target[rows], same[rows][:, rows])
        for rows in sets
        if len(rows) > 1
    ]
    return torch.stack(each).mean() if each else predicted.sum() * 0


def dynamic_weights(
    before: Mapping[str, float], last: Mapping[str, float], temperature: float
) -> dict[str, float]:
    """Dynamic weight average (Liu et al., CVPR 2019, Eq. 7) of the mean losses of two epochs: what
    falls more slowly counts more.

        w_k = L_k(t - 1) / L_k(t - 2),   lambda_k = K exp(w_k / T) / sum_i exp(w_i / T)
    """
    rates = {k: last[k] / before[k] if before[k] > 0 else 1.0 for k in last}
    powers = {k: math.exp(rate / temperature) for k, rate in rates.items()}
    return {k: len(powers) * power / sum(powers.values()) for k, power in powers.items()}
