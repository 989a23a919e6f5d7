"""A CLIP of our own architecture, from torch alone: a ViT image tower and a causal text tower,
under open_clip's names and with its initial weights.

It holds parameters; ``model.clip.towers`` runs them. open_clip's classes would do as well, but
importing that package takes longer than everything else on the way from start to ready together (it
brings torchvision, timm and torch's compiler), so it is imported only for CLIPs that are its own.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = 12


class VisionSettings(_Settings):
    """Of the image tower; the defaults are open_clip's."""

    width: int = 768
    head_width: int = 64
    patch_size: int = 16
    image_size: int = 224


class TextSettings(_Settings):
    """Of the text tower; the defaults are open_clip's."""

    width: int = 512
    heads: int = 8
    context_length: int = 77
    vocab_size: int = 49408


class Block(nn.Module):
    """The parameters of one pre-norm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = nn.Identity()
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, 4 * width),
                gelu=nn.GELU(),
                c_proj=nn.Linear(4 * width, width),
            )
        )
        self.ls_2 = nn.Identity()


class Layers(nn.Module):
    """``resblocks``: the layers of a tower."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.width = width
        self.resblocks = nn.ModuleList(Block(width, heads) for _ in range(layers))


class ImageTransformer(nn.Module):
    """The parameters of a ViT whose class token is read."""

    attn_pool = None
    pool_type = "tok"

    def __init__(self, settings: VisionSettings, embed_dim: int) -> None:
        super().__init__()
        width, size, patch = settings.width, settings.image_size, settings.patch_size
        if width % settings.head_width:
            raise ValueError(f"a width of {width} has no heads of {settings.head_width}")
        if size % patch:
            raise ValueError(f"an image of {size} has no whole patches of {patch}")
        self.image_size = (size, size)
        self.patch_size = (patch, patch)
        self.grid_size = (size // patch, size // patch)
        scale = width**-0.5
        self.conv1: nn.Module = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(
            scale * torch.randn(self.grid_size[0] * self.grid_size[1] + 1, width)
        )
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Layers(width, settings.layers, width // settings.head_width)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, embed_dim))


class OwnClip(nn.Module):
    """The parameters of both towers; the text tower's lie in the CLIP itself, as in open_clip's."""

    attn_mask: Tensor
    text_pool_type = "argmax"

    def __init__(
        self, embed_dim: int, vision_cfg: Mapping[str, Any], text_cfg: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.visual = ImageTransformer(VisionSettings.model_validate(vision_cfg), embed_dim)
        text = TextSettings.model_validate(text_cfg)
        if text.width % text.heads:
            raise ValueError(f"a width of {text.width} can't be shared by {text.heads} heads")
        self.context_length = text.context_length
        # First, as the weights are drawn in the order in which they are made.
        embedding = nn.Embedding(text.vocab_size, text.width)
        self.transformer = Layers(text.width, text.layers, text.heads)
        self.token_embedding = embedding
        self.positional_embedding = nn.Parameter(torch.empty(text.context_length, text.width))
        self.ln_final = nn.LayerNorm(text.width)
        self.text_projection = nn.Parameter(torch.empty(text.width, embed_dim))
        mask = torch.full((text.context_length, text.context_length), float("-inf")).triu_(1)
        self.register_buffer("attn_mask", mask, persistent=False)
        self.logit_scale = nn.Parameter(torch.ones([]) * np.log(1 / 0.07))
        self._initialise_text()

    def _initialise_text(self) -> None:
        """As CLIP does: residual branches start the smaller the deeper the tower is."""
        width, depth = self.transformer.width, len(self.transformer.resblocks)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        into_residual = width**-0.5 * (2 * depth) ** -0.5
        for block in self.transformer.resblocks:
            assert isinstance(block, Block)
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=into_residual)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)  # type: ignore[arg-type, union-attr]
            nn.init.normal_(block.mlp.c_proj.weight, std=into_residual)  # type: ignore[arg-type, union-attr]
        nn.init.normal_(self.text_projection, std=width**-0.5)


def can_be(vision_cfg: Mapping[str, Any], text_cfg: Mapping[str, Any]) -> bool:
    """Whether these settings of open_clip's ask for nothing but what ``OwnClip`` has."""
    known = vision_cfg.keys() <= VisionSettings.model_fields.keys()
    known = known and text_cfg.keys() <= TextSettings.model_fields.keys()
    return known and all(type(v) is int for v in (*vision_cfg.values(), *text_cfg.values()))
