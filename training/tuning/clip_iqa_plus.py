"""Training of CLIP-IQA+ (Wang, Chan and Loy, AAAI 2023): the squared error of the quality."""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.clip_iqa_plus import ClipIqaPlus
from training.data.views import Batch
from training.engine.loop import Losses
from training.tuning.base import LossWeights, Tuning


class ClipIqaPlusWeights(LossWeights):
    """The one term."""

    quality: float = 1.0


class ClipIqaPlusTuning(Tuning[ClipIqaPlus]):
    """The context learns. Views count alike, as in scoring."""

    weights_type = ClipIqaPlusWeights

    def loss(self, batch: Batch) -> Losses:
        """MSE(mean over the views, MOS)."""
        quality = self._quality(batch.windows, batch.wholes)
        return {"quality": self.weights.quality * F.mse_loss(quality, batch.mos)}

    def predict(self, windows: Tensor, wholes: Tensor, prompts: list[str]) -> dict[str, Tensor]:
        """The quality."""
        del prompts
        return {"quality": self._quality(windows, wholes)}

    def _quality(self, windows: Tensor, wholes: Tensor) -> Tensor:
        views = self.views(windows, wholes)
        with torch.no_grad():  # nothing before the text features learns
            z = F.normalize(self.network.features(views.flatten(0, 1)), dim=-1)
        return self.network.probability(z).view(views.shape[:2]).mean(1)
