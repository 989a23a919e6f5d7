"""Training of CLIP-IQA+ (Wang, Chan and Loy, AAAI 2023): the squared error of the quality."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from model.methods.clip_iqa_plus import ClipIqaPlus
from training.engine.task import Losses, Outputs
from training.methods.base import LossWeights, Objective
from training.methods.variant import Variant
from training.sampling.batches import Batch


class ClipIqaPlusWeights(LossWeights):
    """The one term."""

    quality: float = 1.0


class ClipIqaPlusObjective(Objective[ClipIqaPlus]):
    """The context learns. Views count alike, as in scoring."""

    weights_type = ClipIqaPlusWeights
    paper_name = "CLIP-IQA+"
    paper_table = "2"
    prompt_lengths: ClassVar[Mapping[tuple[str, ...], Sequence[int]]] = {
        ("context_length",): (2, 4, 8, 16)
    }

    variants = (
        Variant("full model"),
        Variant("two context vectors", {"options": {"context_length": 2}}),
    )

    def forward(self, windows: Tensor, wholes: Tensor | None) -> Outputs:
        """``z``: normalised features [n, k, d] of all k views; nothing before the text learns."""
        views = self.views(windows, wholes)
        with torch.no_grad():
            z = self.network.features(views.flatten(0, 1)).float()
        return {"z": F.normalize(z, dim=-1).unflatten(0, views.shape[:2])}

    def loss(self, outputs: Outputs, batch: Batch) -> Losses:
        """MSE(mean over the views, MOS)."""
        quality = self.quality(outputs)
        return {"quality": self.weights.quality * F.mse_loss(quality, batch.mos)}

    def quality(self, outputs: Outputs) -> Tensor:
        return self.network.probability(outputs["z"]).mean(1)
