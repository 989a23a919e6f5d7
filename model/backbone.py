"""Backbones: an ``open_clip`` CLIP from a tag, a file, or a checkpoint's folder."""

import hashlib
import itertools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model.config import Architecture, BackboneConfig
from model.errors import BackboneError
from model.towers import check_supported

WEIGHTS = "backbone.safetensors"

# Entries of published state dicts that are not parameters of the network.
_NOT_WEIGHTS = {"attn_mask", "text.attn_mask", "input_resolution", "context_length", "vocab_size"}


class ConvStem(nn.Sequential):
    """3x3 convolutions at stride 2 with batch norm instead of one big patch projection (Xiao et
    al., NeurIPS 2021).

    ``channels`` are the outputs of all but the last, which reaches the tower's width.
    [B, 3, h, w] -> [B, width, h / p, w / p], patch size p = 2^(len(channels) + 1).
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise((3, *channels, width)):
            layers.append(nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1, bias=False))
            layers.append(nn.BatchNorm2d(fan_out))
            layers.append(nn.GELU())
        super().__init__(*layers[:-1])
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # faster on CPUs

    def forward(self, x: Tensor) -> Tensor:
        """Runs the convolutions in channels-last order."""
        return super().forward(x.contiguous(memory_format=torch.channels_last))


def build(architecture: Architecture) -> nn.Module:
    """A CLIP of our own architecture with random weights.

    Raises:
        BackboneError: open_clip knows no such setting, or the towers can't take prompts.
    """
    try:
        clip = open_clip.CLIP(
            embed_dim=architecture.embed_dim,
            vision_cfg=cast(Any, dict(architecture.vision_cfg)),
            text_cfg=cast(Any, dict(architecture.text_cfg)),
            quick_gelu=architecture.quick_gelu,
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise BackboneError(f"the backbone's architecture can't be built: {error}") from error
    if architecture.stem:
        patch = 2 ** (len(architecture.stem) + 1)
        if clip.visual.patch_size != (patch, patch):
            raise BackboneError(f"the stem makes patches of {patch}, not {clip.visual.patch_size}")
        clip.visual.conv1 = ConvStem(architecture.stem, clip.visual.class_embedding.shape[0])
    check_supported(clip)
    return clip


def load_backbone(config: BackboneConfig, folder: Path | None = None) -> nn.Module:
    """Loads the frozen CLIP that ``config`` names, in float32 and evaluation mode.

    Args:
        config: where the weights are.
        folder: the checkpoint's folder, where ``source`` is ``checkpoint`` or ``path`` is relative.

    Raises:
        BackboneError: unknown architecture or tag, missing file, unfitting or unsupported weights.
    """
    if config.source == "open_clip":
        clip = _from_open_clip(config)
    else:
        path = _weights_path(config, folder)
        verify_sha256(path, config.sha256)
        clip = _empty(config)
        load_strictly(clip, read_weights(path), path.name)
    check_supported(clip)
    return clip.float().eval().requires_grad_(False)


def _from_open_clip(config: BackboneConfig) -> nn.Module:
    name, tag = config.name or "", config.pretrained or ""
    _check_name(name)
    if tag not in open_clip.list_pretrained_tags_by_model(name):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name))
        raise BackboneError(f"open_clip has no weights {tag!r} for {name}; it has {tags}")
    try:
        return open_clip.create_model(name, pretrained=tag)
    except (OSError, RuntimeError) as error:
        raise BackboneError(
            f"the weights {name}/{tag} could not be downloaded; mount them as a file and use a "
            'backbone of source "file", fill open_clip\'s cache beforehand, or use a bundled model'
        ) from error


def random_open_clip(name: str) -> nn.Module:
    """An open_clip architecture with random weights, to be filled.

    open_clip warns on the root logger that the weights are random; here that would only mislead.
    """

    def about_other_things(record: logging.LogRecord) -> bool:
        return "No pretrained weights loaded" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(about_other_things)
    try:
        return open_clip.create_model(name, pretrained=None)
    finally:
        root.removeFilter(about_other_things)


def _check_name(name: str) -> None:
    if name not in open_clip.list_models():
        raise BackboneError(
            f"open_clip knows no architecture {name!r}; `open_clip.list_models()` lists them"
        )


def _empty(config: BackboneConfig) -> nn.Module:
    if config.architecture:
        return build(config.architecture)
    _check_name(config.name or "")
    return random_open_clip(config.name or "")


def _weights_path(config: BackboneConfig, folder: Path | None) -> Path:
    path = (folder or Path()) / (
        config.path if config.source == "file" and config.path else WEIGHTS
    )
    if not path.is_file():
        raise BackboneError(f"backbone weights not found: {path}")
    return path


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_sha256(path: Path, expected: str | None) -> None:
    """Refuses weights that are not those the checkpoint was trained on.

    Raises:
        BackboneError: the digests differ.
    """
    if expected and sha256_of(path) != expected:
        raise BackboneError(
            f"{path.name} is not the backbone that this checkpoint was trained on (SHA-256 differs)"
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict in float32 from safetensors, a plain ``torch.save``, or OpenAI's TorchScript
    archive.

    Raises:
        BackboneError: none of these.
    """
    try:
        if path.suffix == ".safetensors":
            weights: Mapping[str, Any] = load_file(path)
        else:
            weights = _read_torch_file(path)
    except Exception as error:
        raise BackboneError(
            f"{path.name} holds no weights that can be read safely: {error}"
        ) from error
    if isinstance(weights, Mapping):
        weights = weights.get("state_dict", weights)
    if not isinstance(weights, Mapping) or not all(isinstance(key, str) for key in weights):
        raise BackboneError(f"{path.name} holds no state dict, names with tensors")
    tensors = {k.removeprefix("module."): v for k, v in weights.items() if isinstance(v, Tensor)}
    return {
        k: v.float() if v.is_floating_point() else v
        for k, v in tensors.items()
        if k not in _NOT_WEIGHTS
    }


def _read_torch_file(path: Path) -> Mapping[str, Any]:
    try:
        return cast(Mapping[str, Any], torch.load(path, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        if "TorchScript" not in str(error):
            raise
        return cast(Mapping[str, Any], torch.jit.load(path, map_location="cpu").state_dict())


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Loads ``weights`` into ``module``; every parameter must be there, no other, each of its
    shape.

    Raises:
        BackboneError: names the first missing, unknown or misshapen tensor.
    """
    own = module.state_dict()
    for name in own.keys() - weights.keys():
        raise BackboneError(f"{what}: the tensor {name} {list(own[name].shape)} is missing")
    for name in weights.keys() - own.keys():
        raise BackboneError(
            f"{what}: the tensor {name} {list(weights[name].shape)} belongs to another network"
        )
    for name, value in weights.items():
        if value.shape != own[name].shape:
            raise BackboneError(
                f"{what}: {name} is {list(value.shape)}, wanted {list(own[name].shape)}"
            )
    module.load_state_dict(dict(weights), strict=True)
