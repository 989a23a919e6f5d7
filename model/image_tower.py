"""The image tower that a CLIP has, for methods that prompt the text alone."""

from typing import Any, cast

from torch import nn

from model.open_clips import is_open_clips
from model.resnet import ResNetTower
from model.towers import VisionTower


def image_tower(clip: nn.Module) -> nn.Module:
    """A ResNet without positional embedding, or a ViT, as the CLIP has it.

    Raises:
        BackboneError: neither.
    """
    visual = cast(Any, clip.visual)
    return (
        ResNetTower(visual)
        if is_open_clips(visual, "modified_resnet.ModifiedResNet")
        else VisionTower(visual)
    )
