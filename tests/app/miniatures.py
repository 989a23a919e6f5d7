"""Checkpoint folders of miniature models, one of each kind that the service treats differently."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.clip.known_words import digests
from model.config import BackboneConfig, CheckpointConfig, CropPolicy, Head, ScoreRange
from model.methods.registry import build_network
from model.store.checkpoint import save_checkpoint
from tests.model import tiny
from tests.model.clip.test_resnet import VISION, resnet_clip

# Our own architectures are ViTs alone; a ResNet comes by name, this one from the hub's cache.
RESNET = "tests/tiny-resnet"
WHOLE = CropPolicy.whole(224, max_side=640)


def fill_hub_cache(cache: Path) -> None:
    """Leaves the ResNet's settings in a cache of the hub, as a download would."""
    settings = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": VISION,
            "text_cfg": {"width": 16, "layers": 2, "heads": 2},
            "quick_gelu": True,
        },
        "preprocess_cfg": {},
    }
    commit, place = "0" * 40, cache / f"models--{RESNET.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    (place / "snapshots" / commit).mkdir(parents=True)
    (place / "snapshots" / commit / "open_clip_config.json").write_text(json.dumps(settings))


def photograph_model(folder: Path) -> Path:
    """MP-IQE: scenes and distortions, crops."""
    return _write(folder, "mp-iqe", {"context_length": 2, "visual_length": 1, "decoder_heads": 2})


def generated_image_model(folder: Path, known_words: Sequence[str] = ()) -> Path:
    """CLIP-AGIQA: alignment and consistency, crops; its CLIP lists these words, if any."""
    heads: tuple[Head, ...] = ("quality", "alignment", "consistency")
    options = {"context_length": 2, "visual_length": 1}
    if not known_words:
        return _write(folder, "clip-agiqa", options, heads=heads)
    architecture = tiny.variant(known_words=len(known_words))
    clip: Any = tiny.random_clip(architecture)
    clip.known_words.copy_(digests(known_words))
    own = BackboneConfig(source="checkpoint", architecture=architecture)
    return _write(folder, "clip-agiqa", options, clip=clip, backbone=own, heads=heads)


def prompt_model(folder: Path) -> Path:
    """CLIPScore: consistency without training, the whole image squashed."""
    policy = CropPolicy(max_windows=1)
    return _write(folder, "clipscore", {}, policy=policy, heads=("quality", "consistency"))


def whole_image_model(folder: Path) -> Path:
    """CLIP-IQA with a ResNet: attributes, each image as it is. Needs ``fill_hub_cache``."""
    backbone = BackboneConfig(source="checkpoint", name=f"hf-hub:{RESNET}")
    return _write(folder, "clip-iqa", {}, clip=resnet_clip(), backbone=backbone, policy=WHOLE)


def _write(
    folder: Path,
    method: str,
    options: dict[str, Any],
    *,
    clip: nn.Module | None = None,
    backbone: BackboneConfig | None = None,
    policy: CropPolicy | None = None,
    heads: Sequence[Head] = ("quality",),
) -> Path:
    """Writes a checkpoint named as its folder; every weight matters, none is trained."""
    clip = clip or tiny.random_clip()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build_network(method, clip, options)
        with torch.no_grad():
            for parameter in network.stored().values():
                parameter.add_(0.2 * torch.randn(parameter.shape))
    own = BackboneConfig(source="checkpoint", architecture=tiny.ARCHITECTURE)
    config = CheckpointConfig(
        name=folder.name,
        method=method,
        backbone=backbone or own,
        options=options,
        heads=tuple(heads),
        crop_policy=policy or CropPolicy(max_side=1024),
        score_range=ScoreRange(low=1, high=5),
    )
    save_checkpoint(
        folder, config, network, card="", metrics={}, backbone=clip, dtype=torch.float32
    )
    return folder
