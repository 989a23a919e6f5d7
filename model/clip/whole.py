"""A CLIP's features as open_clip computes them, for methods that put no prompts between layers: any
of its models will do, whatever its towers are.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.prompts import encode_with_context
from model.clip.resnet import image_tower
from model.clip.tokenizer import Tokenizer
from model.clip.towers import TextTower, VisionTower, text_part
from model.errors import BackboneError

_TOKENIZER = "own_tokenizer"


def keep_tokenizer(clip: nn.Module, tokenizer: Tokenizer) -> None:
    """Has a CLIP's texts cut by that tokenizer instead of CLIP's own."""
    setattr(clip, _TOKENIZER, tokenizer)


def tokenizer_of(clip: nn.Module) -> Tokenizer:
    """What cuts its texts."""
    own: Tokenizer | None = getattr(clip, _TOKENIZER, None)
    return own or Tokenizer()


class WholeImage(nn.Module):
    """An image tower of any kind, run by its own code."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def patchify(self, pixels: Tensor) -> Tensor:
        """Pixels, in the tower's type: nothing is known of its parts."""
        return pixels.to(next(self.visual.parameters()).dtype)

    def encode(self, pixels: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Image features [B, d] of normalised pixels [B, 3, h, w].

        Raises:
            ValueError: there are prompts, for which there is no place.
        """
        if prompts is not None:
            raise ValueError("this image tower takes no visual prompts")
        features = self.visual(pixels)
        return cast(Tensor, features[0] if isinstance(features, tuple) else features)


def any_image_tower(clip: nn.Module) -> nn.Module:
    """The image tower as ``image_tower`` has it, else run by its own code."""
    try:
        return image_tower(clip)
    except BackboneError:
        return WholeImage(cast(nn.Module, clip.visual))


def own_image_tower(clip: nn.Module) -> nn.Module:
    """The image tower with all that it has, as for images of its own size; a ResNet with its
    positional embedding.
    """
    try:
        return VisionTower(clip.visual)
    except BackboneError:
        return WholeImage(cast(nn.Module, clip.visual))


class Texts(nn.Module):
    """Features of texts without prompts, by whichever text tower the CLIP has: ours, which stops
    where the longest text ends, or its own code on texts filled up to the whole context.
    """

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.tokenizer = tokenizer_of(clip)
        self.tower = None if hasattr(clip, _TOKENIZER) else _prompted(clip)
        self.whole = nn.Module() if self.tower is not None else clip
        context = self.tower.context_length if self.tower else int(cast(Any, clip).context_length)
        self.limit = context - len(self.tokenizer.prefix) - len(self.tokenizer.suffix)

    def encode(self, words: Sequence[Sequence[int]]) -> Tensor:
        """Normalised features [n, d] of sequences of at most ``limit`` tokens.

        Raises:
            ValueError: a text that is too long for the tower.
        """
        longest = max(map(len, words))
        if longest > self.limit:
            raise ValueError(f"a text has {longest} tokens; this backbone takes {self.limit}")
        if self.tower is not None:
            none = torch.empty(0, self.tower.width, device=self.device)
            return F.normalize(encode_with_context(self.tower, words, none, self.tokenizer), dim=-1)
        own = self.tokenizer
        rows = [[*own.prefix, *w, *own.suffix, *[own.pad] * (self.limit - len(w))] for w in words]
        features = cast(Any, self.whole).encode_text(torch.tensor(rows, device=self.device))
        return F.normalize(features, dim=-1)

    @property
    def text(self) -> nn.Module:
        """The module that holds the text tower."""
        found: nn.Module = self.tower.text if self.tower is not None else text_part(self.whole)
        return found

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device


def _prompted(clip: nn.Module) -> TextTower | None:
    try:
        return TextTower(clip)
    except BackboneError:
        return None
