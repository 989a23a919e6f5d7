"""Networks small enough for unit tests, with weights that make every part of them matter."""

from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import nn

from model.clip.backbone import build
from model.config import (
    Architecture,
    BackboneConfig,
    CheckpointConfig,
    CropPolicy,
)
from model.methods.clip_agiqa import ClipAgiqa, ClipAgiqaOptions
from model.methods.network import Options

ARCHITECTURE = Architecture(
    embed_dim=16,
    vision_cfg={"image_size": 224, "patch_size": 32, "width": 32, "layers": 2, "head_width": 16},
    text_cfg={"width": 16, "layers": 2, "heads": 2},
    quick_gelu=True,
    stem=(8, 8, 8, 16),
)
OPTIONS = ClipAgiqaOptions(context_length=3, visual_length=2)


def variant(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **changes: Any
) -> Architecture:
    """``ARCHITECTURE`` with some of its settings changed."""
    return ARCHITECTURE.model_copy(
        update={
            "vision_cfg": ARCHITECTURE.vision_cfg | (vision or {}),
            "text_cfg": ARCHITECTURE.text_cfg | (text or {}),
            **changes,
        }
    )


def open_clips(architecture: Architecture) -> dict[str, Any]:
    """The arguments of ``open_clip.CLIP`` among an architecture's settings."""
    own = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
    return architecture.model_dump(include=own)


def shake(module: nn.Module, seed: int = 0, std: float = 0.1) -> None:
    """Adds noise to parameters and statistics, so that none of them stays at 0 or 1."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(std * torch.randn(parameter.shape, generator=noise))
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer += std * torch.rand(buffer.shape, generator=noise)


def random_clip(architecture: Architecture = ARCHITECTURE, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        with patch(
            "model.clip.own_clip.can_be", return_value=False
        ):  # open_clip's has a forward pass
            clip = build(architecture)
    shake(clip, seed)
    return clip.eval()


def random_network(
    options: ClipAgiqaOptions = OPTIONS, clip: nn.Module | None = None, seed: int = 0
) -> ClipAgiqa:
    """CLIP-AGIQA with every learned number different from its start."""
    network = fresh_network(options, clip, seed)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.trainable_parameters().values():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=noise))
    return network


def fresh_network(
    options: ClipAgiqaOptions = OPTIONS, clip: nn.Module | None = None, seed: int = 0
) -> ClipAgiqa:
    """CLIP-AGIQA as training starts it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ClipAgiqa(clip or random_clip(seed=seed), options).eval()


def config_of(options: Options = OPTIONS, **changes: Any) -> CheckpointConfig:
    settings: dict[str, Any] = {
        "name": "tiny",
        "method": "clip-agiqa",
        "backbone": BackboneConfig(source="checkpoint", architecture=ARCHITECTURE),
        "options": options.model_dump(),
        "crop_policy": CropPolicy(max_side=1024),
    }
    return CheckpointConfig(**(settings | changes))


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB image with structure at several scales."""
    state = np.random.RandomState(seed)
    coarse = Image.fromarray(state.randint(0, 256, (5, 5, 3), np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    noisy = pixels + state.randint(-20, 21, pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
