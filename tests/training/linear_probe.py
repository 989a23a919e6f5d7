"""A method of the tests: a linear layer on the features of a frozen CLIP."""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.towers import VisionTower
from model.methods.network import FoldedFeatures, Network, Options, ReadsQuality, Views
from model.scores import Score


class LinearProbeOptions(Options):
    """``gain`` of the sigmoid."""

    gain: float = 1.0


class LinearProbe(Network):
    """quality = mean over the views of sigmoid(gain * (w . z + b))."""

    options_type: ClassVar[type[Options]] = LinearProbeOptions
    trainable: ClassVar[tuple[str, ...]] = ("probe",)
    options: LinearProbeOptions
    vision: VisionTower

    def __init__(self, clip: nn.Module, options: LinearProbeOptions) -> None:
        super().__init__(clip, VisionTower(cast(Any, clip.visual)))
        self.options = options
        self.probe = nn.Linear(self.vision.embed_dim, 1)

    def quality(self, z: Tensor) -> Tensor:
        """Of normalised features [..., d]."""
        return torch.sigmoid(self.options.gain * self.probe(z))[..., 0]

    def features(self, pixels: Tensor) -> Tensor:
        """Normalised [n, d], of normalised crops [n, 3, h, w]."""
        return F.normalize(self.vision.encode(self.vision.patchify(pixels)), dim=-1)

    def fold(self) -> "FoldedLinearProbe":
        return FoldedLinearProbe(self)


class FoldedLinearProbe(FoldedFeatures, ReadsQuality):
    def __init__(self, network: LinearProbe) -> None:
        super().__init__(network.vision)
        self.network = network

    def value(self, views: Views) -> Tensor:
        return self.network.quality(views.all).mean()

    def score(self, views: Views) -> Score:
        each = self.network.quality(views.windows)
        return Score(len(each), float(self.value(views)), crop_quality=tuple(each.tolist()))
