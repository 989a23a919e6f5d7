"""Training of MP-IQE (arXiv 2404.14949, Eq. 9, 11, 15 and 16) on a frozen backbone.

    L = L_scene + lambda1 * L_distortion + lambda2 * SmoothL1(S, MOS)

An image with M scenes has the soft target 1 / M on each of them. Every window, and the global view
where there is one, is judged alone; the score also as the mix that scoring gives.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from model.mp_iqe import MpIqe, Outputs
from model.vocabulary import DISTORTIONS, SCENES
from training.data.views import Batch
from training.engine.loop import Losses
from training.tuning.base import LossWeights, Tuning
from training.tuning.losses import multi_hot, ranking, soft_cross_entropy


class MpIqeWeights(LossWeights):
    """``distortion`` and ``score`` are lambda1 and lambda2 (0.1 on LIVE and CSIQ); the paper has no
    ranking.
    """

    scene: float = 1.0
    distortion: float = 1.0
    score: float = 0.5
    ranking: float = 0.0
    smooth_l1_beta: float = 1.0


class MpIqeTuning(Tuning[MpIqe]):
    """Contexts, visual prompts, projection and decoder learn."""

    weights_type = MpIqeWeights

    def loss(self, batch: Batch) -> Losses:
        """Eq. 15 and 16 on the images that tell scene, distortion and score."""
        w = self.weights
        views = self.views(batch.windows, batch.wholes)
        n, k = views.shape[:2]
        out = self.network(views.flatten(0, 1))
        each = out.score.view(n, k)
        image = self.mixed(each, torch.sigmoid(self.network.global_logit))
        beta = w.smooth_l1_beta
        score = F.smooth_l1_loss(image, batch.mos, beta=beta) + F.smooth_l1_loss(
            each, batch.mos[:, None].expand(n, k), beta=beta
        )
        return {
            "score": w.score * score,
            "ranking": w.ranking * ranking(image, batch.mos, batch.same_set),
            **self._labelled(out, batch, k),
        }

    def _labelled(self, out: Outputs, batch: Batch, k: int) -> Losses:
        """L_scene and L_distortion of all views, for the branches that the network has."""
        scenes = [sample.scenes for sample in batch.samples]
        distortions = [(sample.distortion,) for sample in batch.samples]
        losses = {}
        for name, logits, told, names in (
            ("scene", out.scene, scenes, SCENES),
            ("distortion", out.distortion, distortions, DISTORTIONS),
        ):
            if logits is not None:
                losses[name] = getattr(self.weights, name) * _cross_entropy(logits, told, names, k)
        return losses

    def predict(self, windows: Tensor, wholes: Tensor, prompts: list[str]) -> dict[str, Tensor]:
        """The score, clipped as scoring does."""
        del prompts
        views = self.views(windows, wholes)
        each = self.network(views.flatten(0, 1)).score.view(views.shape[:2])
        image = self.mixed(each, torch.sigmoid(self.network.global_logit))
        return {"quality": image.clamp(0, 1)}


def _cross_entropy(
    logits: Tensor, told: Sequence[Sequence[str]], names: Sequence[str], k: int
) -> Tensor:
    """Of k views per image, each with its image's soft target."""
    return soft_cross_entropy(logits, multi_hot(told, names).repeat_interleave(k, dim=0))
