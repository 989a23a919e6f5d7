"""Training of MP-IQE (arXiv 2404.14949, Eq. 9, 11, 15 and 16) on a frozen backbone.

    L = L_scene + lambda1 * L_distortion + lambda2 * SmoothL1(S, MOS)

An image of several scenes has them as a soft target, in equal shares. Every window, and the global
view where there is one, is a crop that is judged alone. What the paper leaves open is an option
(docs/methods.md).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from model.methods.mp_iqe import MpIqe
from model.methods.vocabulary import DISTORTIONS, SCENES
from training.engine.task import Losses, Outputs
from training.methods.base import LossWeights, Objective
from training.methods.losses import multi_hot, ranking, soft_cross_entropy
from training.methods.variant import VISUAL_ONLY, Variant
from training.sampling.batches import Batch

# The score that no degraded image should fall below.
_LEAST = 0.02


class MpIqeWeights(LossWeights):
    """``distortion`` and ``score`` are lambda1 and lambda2 (0.1 on LIVE and CSIQ).

    - ``image_score``: weight of a second SmoothL1, of the mix that scoring gives an image, and
      ``ranking`` of pairs of those; the paper has neither;
    - ``mean_over_classes``: scene and distortion are divided by the number of their classes, the
      1/M and 1/N of Eq. 9 and 11;
    - ``label_scale``: scores and opinions reach from 0 to it when they are compared.
    """

    scene: float = 1.0
    distortion: float = 1.0
    score: float = 0.5
    image_score: float = 0.0
    ranking: float = 0.0
    smooth_l1_beta: float = Field(default=1.0, ge=0)
    label_scale: float = Field(default=1.0, gt=0)
    mean_over_classes: bool = False
    degradation_floor: float = 10.0


# What the ablation leaves out or puts in another's place, and what Table 4 calls it.
_TABLE_4: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("without scene prompts", {"scene_prompts": False}, "w/o Scene prompts"),
    ("without distortion prompts", {"distortion_prompts": False}, "w/o Distortion prompts"),
    ("without visual prompts", {"visual_prompts": "none"}, "w/o Deep visual prompts"),
    ("shallow visual prompts", {"visual_prompts": "shallow"}, "Shallow visual prompts"),
)
# "An encoder with 12 transformer layers and a decoder with a single transformer layer".
_VISUAL_ONLY = {"scene_prompts": False, "distortion_prompts": False, "decoder_layers": 1}


class MpIqeObjective(Objective[MpIqe]):
    """Contexts, visual prompts, projection and decoder learn."""

    weights_type = MpIqeWeights
    paper_name = "MP-IQE"
    paper_table = "1"
    prompt_lengths: ClassVar[Mapping[tuple[str, ...], Sequence[int]]] = {
        ("context_length",): (2, 4, 8, 16),
        ("visual_length",): (1, 2, 4, 8),
    }

    # Table 4, and the visual-only variant of the paper's pictures.
    variants = (
        Variant("full model", setting="full", table="4"),
        *(Variant(name, {"options": options}, row, "4") for name, options, row in _TABLE_4),
        Variant(VISUAL_ONLY, {"options": _VISUAL_ONLY}),
    )

    def forward(self, windows: Tensor, wholes: Tensor | None) -> Outputs:
        """``score`` [n, k], not clipped, and the logits ``scene`` [n, k, 9] and ``distortion`` [n,
        k, 11] of all k views; none in their ablations.
        """
        views = self.views(windows, wholes)
        out = self.network(views.flatten(0, 1))
        each = {"score": out.score, "scene": out.scene, "distortion": out.distortion}
        return {
            name: value.float().unflatten(0, views.shape[:2])
            for name, value in each.items()
            if value is not None
        }

    def loss(self, outputs: Outputs, batch: Batch) -> Losses:
        """Eq. 15 and 16 on the images that tell scene, distortion and score."""
        w, image = self.weights, self._score(outputs)
        losses = {"score": w.score * self._distance(outputs["score"], batch.mos[:, None])}
        if w.image_score:
            losses["image_score"] = w.image_score * self._distance(image, batch.mos)
        if w.ranking:
            losses["ranking"] = w.ranking * ranking(image, batch.mos, batch.same_set)
        if "scene" in outputs:
            labels = [sample.scenes for sample in batch.samples]
            losses["scene"] = w.scene * self._cross_entropy(outputs["scene"], labels, SCENES)
        if "distortion" in outputs:
            words = [(sample.distortion,) for sample in batch.samples]
            named = self._cross_entropy(outputs["distortion"], words, DISTORTIONS)
            losses["distortion"] = w.distortion * named
        return losses

    def loss_of_degraded(self, outputs: Outputs, worse: Outputs, batch: Batch) -> Losses:
        """The score falls with the strength, but not below zero, where clipping would make all
        alike; the kind is a distortion as good as any that a data set names.
        """
        losses = super().loss_of_degraded(outputs, worse, batch)
        below = F.relu(_LEAST - self._score(worse)).mean()
        losses["degradation_floor"] = self.weights.degradation_floor * below
        if "distortion" in worse:
            assert batch.degraded is not None
            words = [(word,) for word in batch.degraded.words]
            named = self._cross_entropy(worse["distortion"], words, DISTORTIONS)
            losses["degradation_kind"] = self.weights.distortion * named
        return losses

    def open_quality(self, outputs: Outputs) -> Tensor:
        """The score before it is clipped, as steep as a logit in its middle."""
        return 4 * (self._score(outputs) - 0.5)

    def quality(self, outputs: Outputs) -> Tensor:
        """The score, clipped as scoring does."""
        return self._score(outputs).clamp(0, 1)

    def _score(self, outputs: Outputs) -> Tensor:
        """[n], not clipped."""
        return self.mixed(outputs["score"], torch.sigmoid(self.network.global_logit))

    def _distance(self, scores: Tensor, mos: Tensor) -> Tensor:
        """SmoothL1(S, MOS) on the scale of the labels (Eq. 16)."""
        scale, beta = self.weights.label_scale, self.weights.smooth_l1_beta
        return F.smooth_l1_loss(scale * scores, scale * mos.expand_as(scores), beta=beta)

    def _cross_entropy(
        self, logits: Tensor, labels: Sequence[Sequence[str]], names: Sequence[str]
    ) -> Tensor:
        """Of k views per image [n, k, c], each with its image's soft target (Eq. 9 and 11)."""
        targets = multi_hot(labels, names).to(logits.device).repeat_interleave(logits.shape[1], 0)
        found = soft_cross_entropy(logits.flatten(0, 1), targets)
        return found / len(names) if self.weights.mean_over_classes else found
