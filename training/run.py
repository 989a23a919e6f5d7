"""Runs a recipe: pre-training of a backbone, or training of a method with its measurement on the
test split, checkpoint and model card.
"""

import hashlib
import os
import platform
from pathlib import Path

import torch
from torch import nn

from model.backbone import WEIGHTS, build, load_backbone
from model.checkpoint import save_checkpoint, write_atomically, write_weights
from model.config import BackboneConfig, CheckpointConfig, Provenance
from model.network import Network
from model.registry import build_network
from model.scorer import Scorer
from model.weights import sha256_of
from training.data.datasets import DATA_SETS
from training.errors import LeakError
from training.evaluation.evaluate import Report, evaluate
from training.material import Material
from training.recipe import BackboneRecipe, MethodRecipe
from training.reports.backbone_card import BackboneDescription, backbone_card
from training.reports.card import model_card
from training.tuning.base import tuning_type
from training.tuning.pretrain import Pretraining

DESCRIPTION = "backbone.json"


def pretrain(recipe: BackboneRecipe, command: str) -> dict[str, float]:
    """Trains a CLIP stage by stage (resuming what a stopped run left) and writes its weights.

    Returns:
        SRCC of both views of the validation images, per data set and head.

    Raises:
        TrainingError: unusable data, a leak, or a loss that is no number.
    """
    material = Material.prepare(recipe)
    torch.manual_seed(recipe.seed)
    clip = build(recipe.architecture)
    train = [s for parts in material.parts.values() for s in parts["train"]]
    sources = sorted({sample.source for sample in train if sample.source})
    task = Pretraining(clip, sources, material.held, recipe.weights, recipe.patch_dropout)
    for number, stage in enumerate(recipe.stages):
        seed = recipe.seed + number
        material.stage(recipe, stage.name, task, stage.schedule, stage.data, seed).fit()
        round_to_16_bit(clip)
    figures = task.evaluate()
    write_weights(_made(recipe.out) / WEIGHTS, clip.state_dict(), torch.float16)
    described = BackboneDescription(
        name=recipe.name,
        architecture=recipe.architecture,
        sha256=sha256_of(recipe.out / WEIGHTS),
        provenance=_provenance(recipe, command, figures),
    )
    write_atomically(recipe.out / "README.md", backbone_card(described, recipe).encode())
    text = described.model_dump_json(indent=2, exclude_none=True) + "\n"
    write_atomically(recipe.out / DESCRIPTION, text.encode())
    return figures


def train(recipe: MethodRecipe, command: str) -> Report:
    """Trains a method (resuming what a stopped run left), measures it once on the test split, and
    writes the checkpoint.

    Raises:
        TrainingError: unusable data, a leak, or a loss that is no number.
        CheckpointError: a backbone that can't be loaded or used.
    """
    _made(recipe.out)  # the backbone's path starts there
    backbone, before = find_backbone(recipe)
    clip = load_backbone(backbone, recipe.out)
    material = Material.prepare(recipe)
    torch.manual_seed(recipe.seed + 1)
    network = build_network(recipe.method, clip, recipe.options)
    kind = tuning_type(recipe.method)
    weights = kind.weights_type.model_validate(recipe.weights)
    task = kind(network, material.held, weights, whole=recipe.crop_policy.global_view)
    repeats = {recipe.data_set: 1}
    material.stage(
        recipe, recipe.name, task, recipe.schedule, repeats, recipe.seed, backbone.sha256 or ""
    ).fit()
    network.eval().requires_grad_(False)
    round_to_16_bit(network, only=None if network.tunes_backbone else set(network.learned()))
    commands = "\n".join(filter(None, (before.command, command)))
    provenance = _provenance(recipe, commands, {}, before.trained_on)
    config = _config(recipe, network, backbone, provenance)
    return publish(recipe, material, network, clip, config)


def find_backbone(recipe: MethodRecipe) -> tuple[BackboneConfig, Provenance]:
    """The configuration of the recipe's backbone, and what is known of its training; a folder of
    our own is checked for leaks.

    Raises:
        LeakError: the backbone saw the recipe's data set under another split.
        DataError: the folder holds no backbone.
    """
    if isinstance(recipe.backbone, BackboneConfig):
        return recipe.backbone, Provenance()
    folder = recipe.out / recipe.backbone
    described = BackboneDescription.read(folder / DESCRIPTION)
    own, used = described.provenance.split, recipe.split.model_dump()
    saw = recipe.data_set in described.provenance.trained_on
    if saw and {key: own.get(key) for key in used} != used:
        raise LeakError(
            f"{described.name} was pre-trained on {recipe.data_set} under another split ({own}), "
            "so it may have seen the test images: use the same split, or pre-train anew"
        )
    relative = Path(os.path.relpath(folder / WEIGHTS, recipe.out)).as_posix()
    config = BackboneConfig(
        source="file",
        path=relative,
        architecture=described.architecture,
        sha256=described.sha256,
    )
    return config, described.provenance


def _config(
    recipe: MethodRecipe, network: Network, backbone: BackboneConfig, provenance: Provenance
) -> CheckpointConfig:
    # A backbone that learned is the checkpoint's own, whatever it started from.
    stored = backbone.model_copy(update=_OWN) if network.tunes_backbone else backbone
    return CheckpointConfig(
        name=recipe.name,
        revision=revision_of(network, backbone),
        method=recipe.method,
        backbone=stored,
        options=network.options.model_dump(mode="json"),
        heads=network.heads,
        crop_policy=recipe.crop_policy,
        normalisation=recipe.normalisation,
        score_range=DATA_SETS[recipe.data_set].score_range,
        provenance=provenance,
    )


def publish(
    recipe: MethodRecipe,
    material: Material,
    network: Network,
    clip: nn.Module,
    config: CheckpointConfig,
) -> Report:
    """Measures the finished network on the test split and writes the checkpoint."""
    scorer = Scorer(config, network, device="cpu", dtype="float32")
    report = evaluate(scorer, material.parts[recipe.data_set], "test")
    metrics = {key: round(value, 4) for key, value in report.figures.items()}
    provenance = config.provenance.model_copy(update={"metrics": metrics})
    config = config.model_copy(update={"provenance": provenance})
    card = model_card(config, report, recipe)
    own = clip if config.backbone.source == "checkpoint" else None
    save_checkpoint(recipe.out, config, network, card=card, metrics=report.as_dict(), backbone=own)
    return report


_OWN = {"source": "checkpoint", "path": None, "pretrained": None, "sha256": None}


def _provenance(
    recipe: BackboneRecipe | MethodRecipe,
    command: str,
    metrics: dict[str, float],
    seen: tuple[str, ...] = (),
) -> Provenance:
    by = "/".join(dict.fromkeys(DATA_SETS[name].split_by for name in recipe.data))
    return Provenance(
        trained_on=tuple(recipe.data),
        backbone_trained_on=seen,
        split={"by": by, **recipe.split.model_dump()},
        metrics={key: round(value, 4) for key, value in metrics.items()},
        seed=recipe.seed,
        command=command,
        versions={
            "torch": torch.__version__.split("+")[0],
            "python": platform.python_version(),
        },
    )


def revision_of(network: Network, backbone: BackboneConfig) -> str:
    """A digest of the weights, as stored: other scores, another revision."""
    digest = hashlib.sha256((backbone.sha256 or "").encode())
    for name, parameter in sorted(network.learned().items()):
        digest.update(name.encode())
        digest.update(parameter.detach().half().numpy().tobytes())
    return digest.hexdigest()[:12]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@torch.no_grad()
def round_to_16_bit(module: nn.Module, only: set[str] | None = None) -> None:
    """Rounds weights to what the checkpoint stores, so that what is measured is what ships."""
    for name, value in module.state_dict(keep_vars=True).items():
        if value.is_floating_point() and (only is None or name in only):
            value.copy_(value.half())
