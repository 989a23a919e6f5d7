"""LIQE (Zhang et al., "Blind Image Quality Assessment via Vision-Language Correspondence: A
Multitask Learning Perspective", CVPR 2023): one joint text per quality, scene and distortion.

    "a photo of a {scene} with {distortion} artifacts, which is of {quality} quality"

gives 5 x 9 x 11 = 495 texts. The cosines of an image's crops with them are averaged, then

    p(q, s, d | x) = softmax(logits),   quality = sum_q q * p(q | x) in 1..5              (Eq. 2, 3)

and the marginals tell scene and distortion. The whole CLIP is fine-tuned, so a checkpoint's
backbone is what was learned.

On one data set the authors train with the five qualities alone: "a photo with {quality} quality".
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.towers import VisionTower
from model.config import CropKind
from model.methods.network import FoldedFeatures, Network, Options, ReadsQuality, Views
from model.methods.precision import widened, without_autocast
from model.methods.vocabulary import LIQE_DISTORTIONS, LIQE_SCENES
from model.scores import Score

QUALITIES = ("bad", "poor", "fair", "good", "perfect")
SHAPE = (len(QUALITIES), len(LIQE_SCENES), len(LIQE_DISTORTIONS))

# Texts per pass of the text tower: 495 at once would hold the activations of all of them.
_CHUNK = 99


def joint_texts() -> list[str]:
    """The 495 texts, in the order product(qualities, scenes, distortions)."""
    return [
        f"a photo of a {scene} with {distortion} artifacts, which is of {quality} quality"
        for quality, scene, distortion in product(QUALITIES, LIQE_SCENES, LIQE_DISTORTIONS)
    ]


def quality_texts() -> list[str]:
    """The five texts that name no scene and no distortion."""
    return [f"a photo with {quality} quality" for quality in QUALITIES]


class LiqeOptions(Options):
    """``texts``: of quality, scene and distortion jointly, or of the quality alone."""

    texts: Literal["joint", "quality"] = "joint"


@dataclass(frozen=True)
class Marginals:
    """What the joint probability says: ``quality`` [...] in 1..5, ``scene`` [..., 9],
    ``distortion`` [..., 11]; of the quality alone, both [..., 1].
    """

    quality: Tensor
    scene: Tensor
    distortion: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> "Marginals":
        """Softmax over all 495 logits [..., 495] (or 5), then sums."""
        shape = (len(QUALITIES), 1, 1) if logits.shape[-1] == len(QUALITIES) else SHAPE
        joint = logits.softmax(-1).unflatten(-1, shape)
        levels = torch.arange(1, len(QUALITIES) + 1, device=logits.device, dtype=logits.dtype)
        return cls(joint.sum((-2, -1)) @ levels, joint.sum((-3, -1)), joint.sum((-3, -2)))


class Liqe(Network):
    """A CLIP, both of whose towers learn; its logit scale stays as it is."""

    options_type: ClassVar[type[Options]] = LiqeOptions
    # Scale and bias of the logits are left out.
    trainable: ClassVar[tuple[str, ...]] = (
        "vision",
        "text.text.token_embedding",
        "text.text.positional_embedding",
        "text.text.transformer",
        "text.text.ln_final",
        "text.text.text_projection",
    )
    tunes_backbone: ClassVar[bool] = True
    usual_policy: ClassVar[CropKind] = "liqe"
    options: LiqeOptions
    vision: VisionTower

    def __init__(self, clip: nn.Module, options: LiqeOptions) -> None:
        super().__init__(clip, VisionTower(clip.visual))
        self.options = options

    def text_features(self) -> Tensor:
        """Normalised features [495, d] of the joint texts, or [5, d] of the quality's."""
        texts = joint_texts() if self.options.texts == "joint" else quality_texts()
        chunks = [texts[i : i + _CHUNK] for i in range(0, len(texts), _CHUNK)]
        return torch.cat([self.encode_texts(chunk) for chunk in chunks])

    def logits(self, pixels: Tensor, texts: Tensor) -> Tensor:
        """Logits s * cos(x, t) [B, 495] of normalised crops [B, 3, h, w]."""
        z = widened(self.vision.encode(self.vision.patchify(pixels)))
        with without_autocast(z):
            return self.logit_scale.exp() * F.normalize(z, dim=-1) @ texts.T

    def fold(self) -> "FoldedLiqe":
        with torch.no_grad():
            return FoldedLiqe(self.vision, self.text_features(), self.logit_scale.exp())


class FoldedLiqe(FoldedFeatures, ReadsQuality):
    """LIQE at inference; a row is a crop's normalised feature, logits are linear in it."""

    def __init__(self, vision: nn.Module, texts: Tensor, scale: Tensor) -> None:
        super().__init__(vision)
        self.texts = texts.detach().float().cpu()
        self.scale = scale.detach().float().cpu()

    def logits(self, views: Views) -> Tensor:
        """[views, 495]."""
        return self.scale * views.all @ self.texts.T

    def value(self, views: Views) -> Tensor:
        """Logits averaged over the crops, then the softmax; quality mapped from 1..5 to [0, 1]."""
        return to_unit(Marginals.of(self.logits(views).mean(0)).quality)

    def score(self, views: Views) -> Score:
        """Quality as ``value`` has it, and scene and distortion beside it, if texts name them."""
        logits = self.logits(views)
        image = Marginals.of(logits.mean(0))
        each = Marginals.of(logits[: len(views.windows)])
        named = len(self.texts) == math.prod(SHAPE)
        scene = dict(zip(LIQE_SCENES.values(), image.scene.tolist(), strict=named))
        distortion = dict(zip(LIQE_DISTORTIONS.values(), image.distortion.tolist(), strict=named))
        return Score(
            len(views.windows),
            float(self.value(views)),
            scene=scene if named else None,
            distortion=distortion if named else None,
            crop_quality=tuple(to_unit(each.quality).tolist()),
        )


def to_unit(quality: Tensor) -> Tensor:
    """1..5 to [0, 1]; rounding of the sums can leave the interval by 1e-7."""
    return ((quality - 1) / (len(QUALITIES) - 1)).clamp(0, 1)
