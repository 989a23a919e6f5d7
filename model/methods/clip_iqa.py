"""CLIP-IQA (Wang, Chan and Loy, "Exploring CLIP for Assessing the Look and Feel of Images", AAAI
2023): zero-shot quality and attributes from antonym prompts. Nothing is learned.

    s_i = x . t_i / (||x|| ||t_i||),  quality = softmax(s * (s_1, s_2))[1]        (Eq. 1, 2)

with "Good photo." against "Bad photo.", and likewise for other pairs. The original takes a ResNet
without positional embedding on the whole image; any other CLIP sees crops.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model.clip.whole import Texts, any_image_tower
from model.methods.antonyms import QUALITY, FoldedAntonyms
from model.methods.network import Network, Options

Attribute = Literal["quality", "brightness", "noisiness", "colorfulness", "sharpness", "contrast"]

# The first text of a pair is the better, brighter, cleaner ... one.
PAIRS: Mapping[Attribute, tuple[str, str]] = {
    "quality": QUALITY,
    "brightness": ("Bright photo.", "Dark photo."),
    "noisiness": ("Clean photo.", "Noisy photo."),
    "colorfulness": ("Colorful photo.", "Dull photo."),
    "sharpness": ("Sharp photo.", "Blurry photo."),
    "contrast": ("High contrast photo.", "Low contrast photo."),
}


class ClipIqaOptions(Options):
    """Which pairs are compared: ``attributes`` of the paper, and ``pairs`` of one's own (name ->
    better text, worse text), which may replace those of the paper, "quality" too.
    """

    attributes: tuple[Attribute, ...] = tuple(PAIRS)
    pairs: dict[str, tuple[str, str]] = Field(default_factory=dict)

    def texts(self) -> dict[str, tuple[str, str]]:
        """All pairs by name, quality first and always there."""
        names: tuple[Attribute, ...] = ("quality", *self.attributes)
        return {name: PAIRS[name] for name in names} | self.pairs


class ClipIqa(Network):
    """A frozen CLIP of any kind, and texts."""

    options_type: ClassVar[type[Options]] = ClipIqaOptions
    options: ClipIqaOptions
    text: Texts  # type: ignore[assignment]

    def __init__(self, clip: nn.Module, options: ClipIqaOptions) -> None:
        super().__init__(clip, any_image_tower(clip), Texts(clip))
        self.options = options

    def text_features(self) -> dict[str, Tensor]:
        """Normalised features [2, d] of each pair."""
        return {
            name: self.text.encode([self.tokenizer(text) for text in pair])
            for name, pair in self.options.texts().items()
        }

    def fold(self) -> FoldedAntonyms:
        with torch.no_grad():
            return FoldedAntonyms(self.vision, self.text_features(), self.logit_scale.exp())
