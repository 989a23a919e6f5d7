"""What a ViT looks at: Grad-CAM over its tokens, and attention roll-out.

    grad-cam   tokens T [n, w] of a view's patches as they enter a layer, S the image's score:
               a_k = mean_i dS / dT_ik,   map_i = relu(sum_k a_k T_ik)
               (Selvaraju et al., ICCV 2017, Eq. 1 and 2, tokens for positions of a feature map)
    roll-out   A_l attention of layer l, the mean over heads:
               R = A'_L ... A'_1,  A'_l = (A_l + I) / 2;  map_i = R[CLS, i]
               (Abnar and Zuidema, ACL 2020, section 3)

Prompts stand among the tokens, but they are no part of the image: A_l is taken among class token
and patches alone, and its rows are normalised anew. Deep prompts hold nothing of the image; shallow
ones pass on a little of it, which roll-out then leaves out. It tells what reaches the class token,
whichever head reads that; MP-IQE's decoder reads the patches as well, and only Grad-CAM knows.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from model.clip.towers import VisionTower, attention_weights
from model.config import Head
from model.methods.network import Reading
from training.research.explain.stitching import lay_back
from training.research.explain.subject import HeadCrops, Source, Subject

Kind = Literal["grad-cam", "roll-out"]

# Views whose attention is held at once.
_CHUNK = 16


@dataclass(frozen=True)
class Explanation:
    """Where a score comes from: ``map`` float32 [H, W] in [0, 1] over the image, 1 where it is
    strongest (all 0 where nothing raises the score), and the ``score`` in [0, 1].
    """

    map: np.ndarray
    score: float
    model: str
    head: Head
    kind: Kind


def explain(
    subject: Subject,
    image: Source,
    head: Head = "quality",
    kind: Kind = "grad-cam",
    prompt: str | None = None,
    layer: int = -1,
) -> Explanation:
    """Explains one head's score of an image, at the image's own size.

    Args:
        subject: the network; ``Subject.load`` gets it from a checkpoint.
        image: a path, bytes, a Pillow image or a uint8 array [h, w, 3].
        head: ``quality``, ``alignment`` or ``consistency``.
        kind: ``grad-cam`` or ``roll-out``.
        prompt: what the image was generated from; consistency needs it.
        layer: whose incoming tokens Grad-CAM reads, from the end where negative.

    Raises:
        ImageError: the image can't be read.
        ValueError: a head that the method lacks, consistency without a prompt, no such layer.
    """
    reading = subject.reading(head, prompt)
    crops = subject.crops(image, head)
    if kind == "grad-cam":
        maps, score = _grad_cam(subject, crops, reading, layer)
    else:
        maps, score = _roll_out(subject, crops, reading)
    maps = maps.unflatten(1, subject.tower.visual.grid_size).cpu()  # [views, h', w']
    laid = lay_back(maps, crops.layout.grid, crops.size)
    return Explanation(
        laid / max(float(laid.max()), np.finfo(np.float32).tiny),
        float(score.clamp(0, 1)),
        subject.config.name,
        head,
        kind,
    )


def _grad_cam(
    subject: Subject, crops: HeadCrops, reading: Reading, layer: int
) -> tuple[Tensor, Tensor]:
    """Each view's map [n, patches], and the score []. What a view counts in the score is in its
    gradient.
    """
    block = _block(subject.tower, layer)
    with torch.enable_grad(), tokens_entering([block]) as seen:
        score = reading.value(crops.views(subject.rows(crops.pixels, crops.layout)))
        (tokens,) = seen
        (gradient,) = torch.autograd.grad(score, tokens)
    patches = slice(1, 1 + math.prod(subject.tower.visual.grid_size))
    return weigh_tokens(tokens[:, patches].detach(), gradient[:, patches]), score.detach()


def weigh_tokens(tokens: Tensor, gradient: Tensor) -> Tensor:
    """relu(sum_k a_k T_ik) with a_k the mean of the gradient over tokens: [n, patches, w] twice ->
    [n, patches].
    """
    return (gradient.mean(1, keepdim=True) * tokens).sum(-1).relu()


@torch.inference_mode()
def _roll_out(subject: Subject, crops: HeadCrops, reading: Reading) -> tuple[Tensor, Tensor]:
    """Each view's map [n, patches] times what the view counts, and the score []."""
    visual = subject.tower.visual
    blocks, kept = list(visual.transformer.resblocks), 1 + math.prod(visual.grid_size)
    rows, maps = [], []
    for pixels in crops.pixels.split(_CHUNK):
        with tokens_entering(blocks) as seen:
            rows.append(subject.rows(pixels, crops.layout))
        attentions = [attention_weights(b, x) for b, x in zip(blocks, seen, strict=True)]
        maps.append(roll_out(attentions, kept)[:, 0, 1:])
    score = reading.value(crops.views(torch.cat(rows)))
    return _counted(torch.cat(maps), crops, reading), score


def _counted(maps: Tensor, crops: HeadCrops, reading: Reading) -> Tensor:
    """Maps from their smallest value up, windows and global view apart, each times what the view
    counts in the score.

    Every patch is attended to a little, so that the smallest value is what stands for nothing.
    """
    n = crops.layout.windows
    share = reading.share(n) if crops.has_whole else 0.0
    windows = (maps[:n] - maps[:n].min()) * (1 - share) / n
    whole = maps[n:]
    return torch.cat([windows, (whole - whole.min()) * share]) if len(whole) else windows


def roll_out(attentions: Sequence[Tensor], kept: int) -> Tensor:
    """R = A'_L ... A'_1 [B, kept, kept] of the layers' attention [B, n, n] among the first ``kept``
    tokens; rows sum to one.
    """
    identity = torch.eye(kept, device=attentions[0].device)
    rolled = identity
    for attention in attentions:
        own = attention[:, :kept, :kept]
        own = own / own.sum(-1, keepdim=True)
        rolled = (own + identity) / 2 @ rolled
    return rolled


@contextmanager
def tokens_entering(blocks: Sequence[Any]) -> Iterator[list[Tensor]]:
    """Collects the tokens [B, n, w] that enter each of the blocks while the tower runs, prompts
    included; they ask for a gradient where gradients are on.
    """
    seen: list[Tensor] = []

    def watch(_: Any, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0].requires_grad_(torch.is_grad_enabled()))

    # The tower calls a layer's parts one by one; the first of them gets the tokens as they come in.
    handles = [block.ln_1.register_forward_pre_hook(watch) for block in blocks]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _block(tower: VisionTower, layer: int) -> Any:
    if not -tower.depth <= layer < tower.depth:
        raise ValueError(f"there is no layer {layer}; the image tower has {tower.depth}")
    return tower.visual.transformer.resblocks[layer]
