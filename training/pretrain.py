"""Backbone pre-training: a small CLIP from scratch on rated images with prompts.

What CLIP learns from the web is learned here from what AGIQA-3K says about each image, through one
image tower and one text tower: its quality ("good photo." against "bad photo."), how well it
follows its prompt ("aligned photo." against "misaligned photo."), which generator made it and in
which mode (as words), and its prompt (as a caption). One encoder sees both scales, a window at
native size and the whole image squashed. All parameters train.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip_agiqa import ALIGNMENT_WORDS, QUALITY_WORDS, positive_probability
from model.config import Normalisation
from model.prompts import Tokenizer, encode_with_context
from model.towers import TextTower, VisionTower
from training.agiqa3k import Sample
from training.engine import Losses
from training.losses import contrastive, ranking
from training.metrics import plcc, srcc
from training.views import Batch, Picture

_MAX_LOGIT_SCALE = 4.6052  # ln 100, as CLIP clips it


class PretrainWeights(BaseModel):
    """Weights of the terms of the loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quality: float = 10.0
    quality_ranking: float = 1.0
    alignment: float = 5.0
    alignment_ranking: float = 0.5
    generator: float = 0.5
    caption: float = 0.2


@dataclass(frozen=True)
class Held:
    """Validation images as the quick monitor sees them: the middle window and the whole image."""

    samples: Sequence[Sample]
    middles: Tensor
    wholes: Tensor

    @classmethod
    def of(
        cls, samples: Sequence[Sample], pictures: Sequence[Picture], size: int, norm: Normalisation
    ) -> "Held":
        """Cuts the middle windows and normalises both views."""
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (norm.mean, norm.std))
        stacks = ([_middle(p.pixels, size) for p in pictures], [p.wholes[0] for p in pictures])
        middles, wholes = (
            (torch.from_numpy(np.stack(views)).float() - mean) / std for views in stacks
        )
        return cls(samples, middles, wholes)


def _middle(pixels: np.ndarray, size: int) -> np.ndarray:
    y, x = ((side - size) // 2 for side in pixels.shape[:2])
    return pixels[y : y + size, x : x + size].transpose(2, 0, 1)


class Pretraining:
    """The task that ``training.engine`` runs: the whole CLIP learns."""

    def __init__(
        self,
        clip: nn.Module,
        sources: Sequence[str],
        held: Held,
        weights: PretrainWeights,
        patch_dropout: float = 0.0,
    ) -> None:
        self.clip, self.held, self.weights = clip, held, weights
        self.patch_dropout = patch_dropout
        self.vision, self.text = VisionTower(clip.visual), TextTower(clip)  # type: ignore[arg-type]
        self.tokenizer = Tokenizer()
        self.sources = {source: i for i, source in enumerate(sources)}
        self.captions = [f"a picture by {source}" for source in sources]

    def trained(self) -> Mapping[str, nn.Parameter]:
        """Every parameter of the CLIP."""
        return dict(self.clip.named_parameters())

    def buffers(self) -> Mapping[str, Tensor]:
        """Batch norm's running statistics."""
        return {k: v for k, v in self.clip.named_buffers() if "attn_mask" not in k}

    def loss(self, batch: Batch) -> Losses:
        """The weighted terms for one batch."""
        self.clip.train()
        n, scale = len(batch.samples), self._scale()
        both = torch.cat([batch.windows, batch.wholes])
        tokens = drop_patches(self.vision.patchify(both), self.patch_dropout)
        z = F.normalize(self.vision.encode(tokens), dim=-1)
        window, whole = z[:n], z[n:]
        prompts = list(dict.fromkeys(s.prompt for s in batch.samples))
        texts = self._texts([*QUALITY_WORDS, *ALIGNMENT_WORDS, *self.captions, *prompts])
        quality, alignment, captions, asked = texts.split([2, 2, len(self.captions), len(prompts)])
        w = self.weights
        source = torch.tensor([self.sources[s.source] for s in batch.samples])
        matches = torch.tensor([[s.prompt == p for p in prompts] for s in batch.samples])
        mean = F.normalize(window + whole, dim=-1)
        return {
            **self._rated(
                "quality", window, whole, quality, batch.mos, w.quality, w.quality_ranking
            ),
            **self._rated(
                "alignment",
                window,
                whole,
                alignment,
                batch.mos_align,
                w.alignment,
                w.alignment_ranking,
            ),
            "generator": w.generator * F.cross_entropy(scale * mean @ captions.T, source),
            "caption": w.caption * contrastive(mean, asked, matches, scale),
        }

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """SRCC and PLCC of both heads on the held samples, from two views each."""
        self.clip.eval()
        z = [self._encode(views) for views in (self.held.middles, self.held.wholes)]
        texts = self._texts([*QUALITY_WORDS, *ALIGNMENT_WORDS]).split(2)
        quality, alignment = (
            sum(positive_probability(v, t, self._scale()) for v in z) / 2 for t in texts
        )
        mos = [s.mos for s in self.held.samples]
        align = [s.mos_align for s in self.held.samples]
        q, a = np.asarray(quality), np.asarray(alignment)
        return {"srcc": srcc(q, mos), "plcc": plcc(q, mos), "srcc_alignment": srcc(a, align)}

    def _rated(
        self,
        name: str,
        window: Tensor,
        whole: Tensor,
        classes: Tensor,
        mos: Tensor,
        mse: float,
        rank: float,
    ) -> Losses:
        scale = self._scale()
        each = [positive_probability(z, classes, scale) for z in (window, whole)]
        mean = (each[0] + each[1]) / 2
        squares = F.mse_loss(mean, mos) + 0.5 * sum(F.mse_loss(e, mos) for e in each)
        return {name: mse * squares, f"{name}_ranking": rank * ranking(mean, mos)}

    def _texts(self, texts: Sequence[str]) -> Tensor:
        """Normalised features [n, d] of plain texts."""
        none = torch.empty(0, self.text.width)
        ids = [self.tokenizer(text)[: self.text.context_length - 2] for text in texts]
        return F.normalize(
            encode_with_context(self.text, ids, none, self.tokenizer, deep=None), dim=-1
        )

    def _encode(self, views: Tensor) -> Tensor:
        chunks = [self.vision.encode(self.vision.patchify(chunk)) for chunk in views.split(32)]
        return F.normalize(torch.cat(chunks), dim=-1)

    def _scale(self) -> Tensor:
        return self.clip.logit_scale.clamp(max=_MAX_LOGIT_SCALE).exp()  # type: ignore[operator, union-attr]


def drop_patches(tokens: Tensor, share: float) -> Tensor:
    """[B, 1 + n, w] without a random share of each image's patches; the class token stays."""
    if not share:
        return tokens
    batch, n, width = tokens[:, 1:].shape
    kept = torch.rand(batch, n).argsort(1)[:, : max(1, round(n * (1 - share)))]
    patches = tokens[:, 1:].gather(1, kept[..., None].expand(-1, -1, width))
    return torch.cat([tokens[:, :1], patches], dim=1)
