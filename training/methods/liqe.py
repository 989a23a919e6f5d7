"""Full fine-tuning of LIQE (Zhang et al., CVPR 2023, section 3.3) with its three fidelity losses:
quality on pairs within each data set, scenes as a multi-label problem, distortion as classes.
"""

from collections.abc import Sequence

from torch import Tensor

from model.methods.liqe import Liqe, Marginals, to_unit
from model.methods.vocabulary import LIQE_DISTORTIONS, LIQE_SCENES
from training.engine.task import Losses, Outputs
from training.methods.base import LossWeights, Objective
from training.methods.losses import (
    binary_fidelity,
    fidelity_of_classes,
    multi_hot,
    thurstone_fidelity,
)
from training.sampling.batches import Batch


class LiqeWeights(LossWeights):
    """Weights of the three tasks."""

    quality: float = 1.0
    scene: float = 1.0
    distortion: float = 1.0


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
        losses = {
            "quality": w.quality * thurstone_fidelity(marginals.quality, batch.mos, batch.same_set)
        }
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

    def quality(self, outputs: Outputs) -> Tensor:
        return to_unit(Marginals.of(outputs["logits"]).quality)
