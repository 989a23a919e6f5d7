"""CLIP's ResNet image tower without its positional embedding, so that it takes images of any size
(CLIP-IQA, Wang et al., AAAI 2023, section 3.1), and the choice between it and a ViT.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.towers import VisionTower, is_open_clips, join_heads, split_heads
from model.errors import BackboneError


class ResNetTower(nn.Module):
    """Attention pooling over a feature map of any size: the mean token asks, all tokens answer."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        if not is_open_clips(visual, "modified_resnet.ModifiedResNet"):
            raise BackboneError(
                f"this backbone is no CLIP ResNet (found {type(visual).__name__}, wanted RN50, "
                "RN101, RN50x4 ...)"
            )
        self.visual = visual

    def patchify(self, pixels: Tensor) -> Tensor:
        """Pixels, in the tower's type: a ResNet has no patches to share between passes."""
        return pixels.to(self.visual.conv1.weight.dtype)

    def encode(self, pixels: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Image features [B, d], not normalised, of normalised pixels [B, 3, h, w] of any size.

        Raises:
            ValueError: there are prompts, which a ResNet can't take.
        """
        if prompts is not None:
            raise ValueError("a ResNet takes no visual prompts")
        visual = self.visual
        x = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(pixels)))))
        tokens = x.flatten(2).transpose(1, 2)  # [B, h w / 32^2, w]
        return self._pool(torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1))

    def _pool(self, tokens: Tensor) -> Tensor:
        """``attnpool`` of CLIP for the first token alone, without positions."""
        pool = self.visual.attnpool
        projected = pool.q_proj(tokens[:, :1]), pool.k_proj(tokens), pool.v_proj(tokens)
        q, k, v = (split_heads(x, pool.num_heads) for x in projected)
        out = F.scaled_dot_product_attention(q, k, v)
        return pool.c_proj(join_heads(out)[:, 0])


def image_tower(clip: nn.Module) -> nn.Module:
    """A ResNet without positional embedding, or a ViT, as the CLIP has it: for methods that prompt
    the text alone.

    Raises:
        BackboneError: neither.
    """
    visual = cast(Any, clip.visual)
    resnet = is_open_clips(visual, "modified_resnet.ModifiedResNet")
    return ResNetTower(visual) if resnet else VisionTower(visual)
