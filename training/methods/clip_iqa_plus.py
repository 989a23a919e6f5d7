"""Training of CLIP-IQA+ (Wang, Chan and Loy, AAAI 2023): the squared error of the quality.

Its tower is frozen, so whole images, as it is published, are looked at once each way round
(``training.sampling.features``), however many steps there are.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
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
        """``z``: normalised features [n, k, d] of all k views, or ``windows`` if it is these."""
        if windows.ndim == 3:
            return {"z": windows}
        views = self.views(windows, wholes)
        return {"z": self.encode(views.flatten(0, 1)).unflatten(0, views.shape[:2])}

    @property
    def tower(self) -> nn.Module:
        """CLIP's image tower: nothing before the text learns."""
        return self.network.vision

    @property
    @torch.no_grad()
    def width(self) -> int:
        """How many numbers a feature has."""
        return self.network.text_features().shape[-1]

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Normalised features [n, d] of normalised pixels [n, 3, h, w]."""
        return F.normalize(self.network.features(pixels).float(), dim=-1)

    def loss(self, outputs: Outputs, batch: Batch) -> Losses:
        """MSE(mean over the views, MOS)."""
        quality = self.quality(outputs)
        return {"quality": self.weights.quality * F.mse_loss(quality, batch.mos)}

    def quality(self, outputs: Outputs) -> Tensor:
        return self.network.probability(outputs["z"]).mean(1)
