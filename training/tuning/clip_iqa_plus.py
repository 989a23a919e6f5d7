"""Training of CLIP-IQA+ (Wang, Chan and Loy, AAAI 2023): the squared error of the quality."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from model.clip_iqa_plus import ClipIqaPlus
from training.data.batches import Batch
from training.engine.task import Losses, Said
from training.tuning.base import LossWeights, Tuning


class ClipIqaPlusWeights(LossWeights):
    """The one term."""

    quality: float = 1.0


class ClipIqaPlusTuning(Tuning[ClipIqaPlus]):
    """The context learns. Views count alike, as in scoring."""

    weights_type = ClipIqaPlusWeights

    def say(self, windows: Tensor, wholes: Tensor | None) -> Said:
        """``z``: normalised features [n, k, d] of all k views; nothing before the text learns."""
        views = self.views(windows, wholes)
        with torch.no_grad():
            z = self.network.features(views.flatten(0, 1)).float()
        return {"z": F.normalize(z, dim=-1).unflatten(0, views.shape[:2])}

    def loss(self, said: Said, batch: Batch) -> Losses:
        """MSE(mean over the views, MOS)."""
        quality = self.network.probability(said["z"]).mean(1)
        return {"quality": self.weights.quality * F.mse_loss(quality, batch.mos)}

    def heads(self, said: Said, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The quality."""
        del prompts
        return {"quality": self.network.probability(said["z"]).mean(1)}
