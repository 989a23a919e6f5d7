"""Checkpoints of methods that need no training here: CLIP-IQA and CLIPScore from any CLIP, LIQE
from fine-tuned weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.clip.backbone import load_backbone, normalisation_of
from model.clip.file_tokenizer import FileTokenizer
from model.clip.weights import sha256_of
from model.clip.whole import keep_tokenizer
from model.config import BackboneConfig, CheckpointConfig, CropPolicy
from model.errors import CheckpointError
from model.methods.network import Network
from model.methods.policy import check_policy, choose_policy
from model.methods.registry import METHODS, build_network
from model.store import tokenizers
from model.store.checkpoint import save_checkpoint


def assemble(
    method: str,
    out: Path,
    *,
    architecture: str,
    weights: Path | None = None,
    pretrained: str | None = None,
    options: Mapping[str, Any] | None = None,
    crop_policy: str | None = None,
    name: str | None = None,
) -> CheckpointConfig:
    """Writes the checkpoint ``out``; a weights file is copied into it in 32 bit, a tag is not.

    Args:
        method: one that learns nothing beside its backbone.
        out: the new folder.
        architecture: open_clip's name of the CLIP, or ``hf-hub:owner/name``.
        weights: a file of its weights, in any layout that ``model.clip.backbone`` reads.
        pretrained: instead of a file, open_clip's tag.
        options: the method's.
        crop_policy: by name; None: whole images for a ResNet, else the method's usual one.
        name: the model's name; None: the folder's.

    Raises:
        CheckpointError: a method that must be trained, or weights that do not fit.
    """
    if method not in METHODS:
        raise CheckpointError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    source = _source(architecture, weights, pretrained)
    clip = load_backbone(source)
    tokenizer = tokenizers.fetch(architecture)
    if tokenizer is not None:
        keep_tokenizer(clip, FileTokenizer(tokenizer[1], tokenizer[0]))
    try:
        network = build_network(method, clip, options or {})
    except ValueError as error:
        raise CheckpointError(f"the options do not fit {method}: {error}") from error
    if network.stored():
        raise CheckpointError(f"{method} has parameters of its own to learn: use agiqa train")
    own, backbone = None, source
    if weights is not None:
        own, backbone = clip, BackboneConfig(source="checkpoint", name=architecture)
    if tokenizer is not None:
        backbone = backbone.model_copy(update={"tokenizer": tokenizer[0]})
    config = CheckpointConfig(
        name=name or out.name,
        revision=sha256_of(weights)[:12] if weights else "0",
        method=method,
        backbone=backbone,
        options=network.options.model_dump(mode="json"),
        heads=network.heads,
        crop_policy=CropPolicy(size=network.input_size, max_windows=network.usual_windows),
        normalisation=normalisation_of(source, clip),
    )
    config = config.model_copy(update={"crop_policy": _policy(config, network, crop_policy)})
    card = _card(config)
    if tokenizer is not None:
        tokenizers.write(out, tokenizer[1])
    save_checkpoint(out, config, network, card=card, metrics={}, backbone=own, dtype=torch.float32)
    return config


def _policy(config: CheckpointConfig, network: Network, name: str | None) -> CropPolicy:
    usual = "whole" if network.takes_any_size else network.usual_policy
    try:
        policy = choose_policy(config, name or usual)
        check_policy(config.name, policy, network)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return policy


def _source(architecture: str, weights: Path | None, pretrained: str | None) -> BackboneConfig:
    if weights is not None and pretrained is not None:
        raise CheckpointError("give a weights file or a tag of open_clip, not both")
    if weights is not None:
        return BackboneConfig(source="file", name=architecture, path=str(weights.resolve()))
    if pretrained is None and not architecture.startswith("hf-hub:"):
        raise CheckpointError("give the weights: a file, or a tag of open_clip")
    return BackboneConfig(source="open_clip", name=architecture, pretrained=pretrained)


def _card(config: CheckpointConfig) -> str:
    return f"""---
license: other
library_name: agiqa
pipeline_tag: image-classification
tags: [image-quality-assessment, {config.method}]
---

# {config.name}

{config.method} on {config.backbone.name}, put together by `agiqa assemble`. Nothing was trained or
measured here; the licence is that of the weights. Measure it on the data that you care about with
`agiqa evaluate --checkpoint {config.name} --data DIR --part all`.
"""
