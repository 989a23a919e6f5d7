"""Recipes in miniature: a backbone on both sets, and a method on one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.training.miniature import write_agiqa3k, write_live_challenge
from training.backbone import pretrain
from training.recipe import BackboneRecipe, MethodRecipe

ARCHITECTURE: Mapping[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {
        "layers": 2,
        "width": 16,
        "head_width": 8,
        "patch_size": 16,
        "image_size": 32,
    },
    "text_cfg": {"layers": 2, "width": 16, "heads": 2},
    "stem": [8, 8, 8],
}
SPLIT = {"shares": {"train": 0.5, "validation": 0.25, "test": 0.25}}
COMMON: Mapping[str, Any] = {
    "zooms": [1.0, 1.25],
    "crop_policy": {"size": 32, "stride": 24, "max_side": 64, "global_view": True},
    "split": SPLIT,
    "about": "A miniature.",
    "limits": ["It is a miniature."],
}
SCHEDULE = {"epochs": 2, "batch": 6, "degraded": 2, "lr": 1.0e-3, "warmup_epochs": 0.5}
BACKBONE: Mapping[str, Any] = {
    **COMMON,
    "kind": "backbone",
    "name": "backbone",
    "architecture": ARCHITECTURE,
    "patch_dropout": 0.25,
    "stages": [
        {"name": "first", "data": {"AGIQA-3K": 1}, "schedule": SCHEDULE},
        {
            "name": "joint",
            "data": {"AGIQA-3K": 1, "LIVE-Challenge": 2},
            "schedule": {**SCHEDULE, "optimiser": "muon"},
        },
    ],
}
METHOD: Mapping[str, Any] = {
    **COMMON,
    "kind": "method",
    "name": "miniature",
    "method": "clip-agiqa",
    "backbone": "../backbone",
    "schedule": SCHEDULE,
    "degraded_test": 2,
}
# Method -> the set that it is trained on, and what else its miniature needs.
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "clip-agiqa": ("AGIQA-3K", {}),
    "mp-iqe": ("LIVE-Challenge", {"options": {"decoder_heads": 4, "decoder_layers": 2}}),
    "clip-iqa-plus": ("LIVE-Challenge", {"schedule": {**SCHEDULE, "optimiser": "sgd"}}),
    "liqe": ("LIVE-Challenge", {"schedule": {**SCHEDULE, "windows": 2}}),
}


def write_data(folder: Path) -> dict[str, Path]:
    """Both sets in miniature."""
    return {
        "AGIQA-3K": write_agiqa3k(folder / "AGIQA-3K"),
        "LIVE-Challenge": write_live_challenge(folder / "LIVE-Challenge"),
    }


def backbone_recipe(data: Mapping[str, Path], folder: Path, **changes: Any) -> BackboneRecipe:
    places = {"data": data, "out": folder / "backbone", "work": folder / "work"}
    return BackboneRecipe.model_validate({**BACKBONE, **places, **changes})


def method_recipe(
    data: Mapping[str, Path], folder: Path, method: str = "clip-agiqa", **changes: Any
) -> MethodRecipe:
    name, own = METHODS[method]
    places = {
        "data": {name: data[name]},
        "out": folder / "checkpoint",
        "work": folder / f"work-{method}",
        "method": method,
    }
    return MethodRecipe.model_validate({**METHOD, **places, **own, **changes})


def with_backbone(data: Mapping[str, Path], folder: Path) -> Path:
    """A folder that holds a pre-trained miniature backbone."""
    pretrain(backbone_recipe(data, folder), "agiqa train backbone")
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every stored tensor below a folder."""
    files = sorted(folder.rglob("*.safetensors"))
    return {f"{f.relative_to(folder)} {k}": v for f in files for k, v in load_file(f).items()}
