"""What the tests' own method learns: the squared error of the quality."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.training.linear_probe import LinearProbe
from training.engine.task import Losses, Outputs
from training.methods.base import LossWeights, Objective
from training.methods.variant import Variant
from training.sampling.batches import Batch


class LinearProbeWeights(LossWeights):
    quality: float = 1.0


class LinearProbeObjective(Objective[LinearProbe]):
    weights_type = LinearProbeWeights

    variants = (Variant("full model"), Variant("flat", {"options": {"gain": 0.1}}))

    def forward(self, windows: Tensor, wholes: Tensor | None) -> Outputs:
        views = self.views(windows, wholes)
        with torch.no_grad():
            z = self.network.features(views.flatten(0, 1))
        return {"z": z.unflatten(0, views.shape[:2])}

    def loss(self, outputs: Outputs, batch: Batch) -> Losses:
        quality = self.quality(outputs)
        return {"quality": self.weights.quality * F.mse_loss(quality, batch.mos)}

    def quality(self, outputs: Outputs) -> Tensor:
        return self.network.quality(outputs["z"]).mean(1)
