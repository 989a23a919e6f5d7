"""CLIP-IQA+ (Wang, Chan and Loy, AAAI 2023, section 3.3): CLIP-IQA with a learned prompt.

Sixteen context vectors, shared by "good" and "bad", stand around the class words (CoOp's "middle"):
"[V]x8 Good photo. [V]x8" against "[V]x8 Bad photo. [V]x8". Everything else is frozen.
"""

from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from model.clip.prompts import random_prompts
from model.clip.resnet import image_tower
from model.methods.antonyms import FoldedAntonyms, positive_probability
from model.methods.network import ImageTower, Network, Options

WORDS = ("Good photo.", "Bad photo.")


class ClipIqaPlusOptions(Options):
    """``context_length`` vectors, half of them (rounded down) before the class words."""

    context_length: int = Field(default=16, ge=1, le=1024)
    init_std: float = Field(default=0.02, gt=0)


class ClipIqaPlus(Network):
    """A frozen CLIP, ViT or ResNet, and one learnable context [c, w_text]."""

    options_type: ClassVar[type[Options]] = ClipIqaPlusOptions
    trainable: ClassVar[tuple[str, ...]] = ("context",)
    options: ClipIqaPlusOptions

    def __init__(self, clip: nn.Module, options: ClipIqaPlusOptions) -> None:
        super().__init__(clip, image_tower(clip))
        self.options = options
        self.require_room(options.context_length, WORDS)
        shape = (options.context_length, self.text.width)
        self.context = random_prompts(shape, options.init_std)

    def text_features(self) -> Tensor:
        """Normalised features [2, d] of "good" and "bad"."""
        half = len(self.context) // 2
        return self.encode_texts(WORDS, self.context[:half], after=self.context[half:])

    def features(self, pixels: Tensor) -> Tensor:
        """Image features [B, d], not normalised, of normalised crops [B, 3, h, w]."""
        tower = cast(ImageTower, self.vision)
        return tower.encode(tower.patchify(pixels))

    def probability(self, z: Tensor) -> Tensor:
        """Quality of normalised image features [..., d]."""
        return positive_probability(z, self.text_features(), self.logit_scale.exp())

    def fold(self) -> FoldedAntonyms:
        with torch.no_grad():
            pairs = {"quality": self.text_features()}
            return FoldedAntonyms(self.vision, pairs, self.logit_scale.exp())
