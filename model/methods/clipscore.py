"""CLIPScore (Hessel et al., "CLIPScore: A Reference-free Evaluation Metric for Image Captioning",
EMNLP 2021): how well an image and its prompt go together, by any CLIP, without training.

    c = cos(z, t),  z the image, t the text "A photo depicts" + prompt;   consistency = (1 + c) / 2

The map is the same for every CLIP and strictly rising, so that ranks are those of the cosine: the
paper's own figure, 2.5 max(c, 0), gives all images of a SigLIP below 0 the same. It is got back as
2.5 max(2 a - 1, 0) of a consistency a.

Quality is CLIP-IQA's, by the same CLIP: "Good photo." against "Bad photo.". The image is squashed
to the CLIP's input as a whole: a prompt tells of all of it.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import StringConstraints
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.prompts import split_prompt
from model.clip.towers import place
from model.clip.whole import Texts, own_image_tower
from model.config import Head
from model.methods.antonyms import QUALITY, positive_probability
from model.methods.consistency import pool_views
from model.methods.network import FoldedFeatures, Network, Options, Reading, Views
from model.scores import Score

# Of a prompt's tokens, so many at least are read at once.
_FEWEST = 8


class ClipScoreOptions(Options):
    """``prefix``: what stands before every prompt; the paper's by default."""

    prefix: Annotated[str, StringConstraints(max_length=200)] = "A photo depicts "


class ClipScore(Network):
    """A frozen CLIP of any kind."""

    options_type: ClassVar[type[Options]] = ClipScoreOptions
    usual_windows: ClassVar[int] = 1
    heads: tuple[Head, ...] = ("quality", "consistency")
    options: ClipScoreOptions
    text: Texts  # type: ignore[assignment]

    def __init__(self, clip: nn.Module, options: ClipScoreOptions) -> None:
        super().__init__(clip, own_image_tower(clip), Texts(clip))
        self.options = options
        room = self.text.limit - len(self.tokenizer(options.prefix))
        if room < _FEWEST:
            raise ValueError(f"the prefix leaves {max(room, 0)} tokens for a prompt: shorten it")

    def fold(self) -> "FoldedClipScore":
        with torch.no_grad():
            return FoldedClipScore(self)


class FoldedClipScore(FoldedFeatures):
    """CLIPScore at inference. Both passes see the same features, which are computed once a crop."""

    def __init__(self, network: ClipScore) -> None:
        super().__init__(network.vision)
        self.text = network.text
        self.prefix = network.options.prefix
        words = [network.tokenizer(text) for text in QUALITY]
        self.pair = network.text.encode(words).float().cpu()
        self.scale = network.logit_scale.detach().exp().float().cpu()

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Puts the towers on the device in ``dtype``; what reads stays on the CPU in float32."""
        super().place(device, dtype)
        place(self.text, device, dtype)

    def forward(self, pixels: Tensor, row_crop: Tensor, row_pass: Tensor) -> Tensor:
        """Normalised features float32 [m, d] of m rows over n crops [n, 3, h, w]."""
        del row_pass
        every = torch.arange(len(pixels), device=pixels.device)
        return super().forward(pixels, every, every)[row_crop]

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Normalised float32 features [n, d] of users' prompts; the parts of one that is too long
        for the tower are averaged.
        """
        parts = [self._parts(prompt) for prompt in prompts]
        features = self.text.encode([part for own in parts for part in own]).float()
        owners = features.split([len(own) for own in parts])
        return torch.stack([F.normalize(own.mean(0), dim=-1) for own in owners])

    def reading(self, head: Head, t_user: Tensor | None = None) -> Reading:
        """The probability of "Good photo.", the mean over the views; or the mapped cosine of the
        mean over the views.
        """
        if head == "quality":
            return Reading(lambda views: self._probability(views.all).mean())
        assert t_user is not None
        return Reading(lambda views: (1 + pool_views(views.all) @ t_user) / 2)

    def read(self, views: Mapping[Head, Views], t_user: Tensor | None = None) -> Score:
        # Rounding can leave the interval by 1e-7.
        values = {
            head: float(self.reading(head, t_user).value(views[head]).clamp(0, 1)) for head in views
        }
        windows = next(iter(views.values())).windows
        return Score(
            len(windows),
            values.get("quality"),
            consistency=values.get("consistency"),
            crop_quality=tuple(self._probability(windows).tolist()) if "quality" in views else None,
        )

    def _probability(self, z: Tensor) -> Tensor:
        return positive_probability(z, self.pair, self.scale)

    def _parts(self, prompt: str) -> list[list[int]]:
        """The prompt behind the prefix, in one sequence of tokens where it fits."""
        tokenizer = self.text.tokenizer
        whole = tokenizer(self.prefix + prompt)
        if len(whole) <= self.text.limit:
            return [whole]
        prefix = tokenizer(self.prefix)
        commas = frozenset(tokenizer(","))
        parts = split_prompt(tokenizer(prompt), self.text.limit - len(prefix), commas)
        return [prefix + part for part in parts]
