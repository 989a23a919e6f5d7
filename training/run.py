"""Runs a recipe: pre-training, prompt tuning, measurement on the test split, checkpoint with its
model card.
"""

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from model.backbone import WEIGHTS, build, sha256_of
from model.checkpoint import save_checkpoint, write_weights
from model.clip_agiqa import ClipAgiqa
from model.config import BackboneConfig, CheckpointConfig, Provenance, ScoreRange
from model.scorer import Scorer
from training import agiqa3k
from training.agiqa3k import Sample
from training.card import model_card
from training.engine import Run
from training.evaluate import Report, evaluate
from training.pretrain import Held, Pretraining
from training.recipe import Recipe
from training.splits import split_by_group
from training.tune import ClipAgiqaTuning
from training.views import Batches, Picture, load_pictures


@dataclass(frozen=True)
class Material:
    """What both stages share: the split, and its decoded training and validation pictures."""

    parts: dict[str, list[Sample]]
    pictures: list[Picture]
    held: Held
    fingerprint: str


def train(recipe: Recipe, command: str) -> Report:
    """Trains both stages (resuming what a stopped run left), measures once on the test split,
    writes the checkpoint.

    Raises:
        TrainingError: unusable data, a leak, or a loss that is no number.
    """
    material = prepare(recipe)
    torch.manual_seed(recipe.seed)
    clip = build(recipe.pretrain.architecture)
    sources = sorted({sample.source for sample in material.parts["train"]})
    stage = recipe.pretrain
    pretraining = Pretraining(clip, sources, material.held, stage.weights, stage.patch_dropout)
    _stage("pretrain", recipe, material, pretraining).fit()
    clip.eval().requires_grad_(False)
    round_to_16_bit(clip)

    torch.manual_seed(recipe.seed + 1)
    network = ClipAgiqa(clip, recipe.tune.options)
    _stage(
        "tune", recipe, material, ClipAgiqaTuning(network, material.held, recipe.tune.weights)
    ).fit()
    round_to_16_bit(network, only=set(network.learned()))
    return publish(recipe, material, network, clip, command)


def prepare(recipe: Recipe) -> Material:
    """Reads and splits the data, and decodes the parts that training looks at."""
    samples = agiqa3k.read(recipe.data)
    parts = split_by_group(samples, recipe.split.shares, recipe.split.seed)
    size = recipe.crop_policy.size
    pictures = load_pictures(parts["train"], recipe.crop_policy, recipe.zooms)
    validation = parts["validation"]
    held = Held.of(
        validation, load_pictures(validation, recipe.crop_policy), size, recipe.normalisation
    )
    return Material(parts, pictures, held, data_fingerprint(samples))


def _stage(
    name: str, recipe: Recipe, material: Material, task: Pretraining | ClipAgiqaTuning
) -> Run:
    schedule = (recipe.pretrain if name == "pretrain" else recipe.tune).schedule
    batches = Batches(
        material.parts["train"],
        material.pictures,
        recipe.crop_policy,
        recipe.normalisation,
        size=schedule.batch,
        seed=recipe.seed,
    )
    excluded = {"out", "work", "data", "name"} | ({"tune"} if name == "pretrain" else set())
    settings = recipe.model_dump_json(exclude=excluded)
    fingerprint = hashlib.sha256(f"{settings}{material.fingerprint}".encode()).hexdigest()
    recipe.work.mkdir(parents=True, exist_ok=True)
    return Run(name, task, batches, schedule, recipe.work, recipe.seed, fingerprint)


def publish(
    recipe: Recipe, material: Material, network: ClipAgiqa, clip: nn.Module, command: str
) -> Report:
    """Measures the finished network on the test split and writes the checkpoint (and the shared
    backbone).
    """
    config = _config(recipe, command, _store_backbone(recipe, clip))
    scorer = Scorer(config, network, device="cpu", dtype="float32")
    report = evaluate(scorer, material.parts, "test")
    metrics = {key: round(value, 4) for key, value in report.figures.items()}
    provenance = config.provenance.model_copy(update={"metrics": metrics})
    config = config.model_copy(update={"provenance": provenance})
    card = model_card(config, report, recipe)
    own = None if recipe.shared_backbone else clip
    save_checkpoint(recipe.out, config, network, card=card, metrics=report.as_dict(), backbone=own)
    return report


def _store_backbone(recipe: Recipe, clip: nn.Module) -> BackboneConfig:
    architecture = recipe.pretrain.architecture
    if not recipe.shared_backbone:
        return BackboneConfig(source="checkpoint", architecture=architecture)
    folder = recipe.out.parent / recipe.shared_backbone
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WEIGHTS
    write_weights(path, clip.state_dict(), torch.float16)
    relative = Path("..", recipe.shared_backbone, WEIGHTS).as_posix()
    return BackboneConfig(
        source="file", path=relative, architecture=architecture, sha256=sha256_of(path)
    )


def _config(recipe: Recipe, command: str, backbone: BackboneConfig) -> CheckpointConfig:
    revision = hashlib.sha256(
        recipe.model_dump_json(exclude={"out", "work", "data"}).encode()
    ).hexdigest()[:12]
    return CheckpointConfig(
        name=recipe.name,
        revision=revision,
        method="clip-agiqa",
        backbone=backbone,
        options=recipe.tune.options.model_dump(),
        crop_policy=recipe.crop_policy,
        normalisation=recipe.normalisation,
        score_range=ScoreRange(low=agiqa3k.SCORE_LOW, high=agiqa3k.SCORE_HIGH),
        provenance=Provenance(
            trained_on=(agiqa3k.NAME,),
            split={"by": "prompt", **recipe.split.model_dump()},
            seed=recipe.seed,
            command=command,
            versions={
                "torch": torch.__version__.split("+")[0],
                "python": platform.python_version(),
            },
        ),
    )


@torch.no_grad()
def round_to_16_bit(module: nn.Module, only: set[str] | None = None) -> None:
    """Rounds weights to what the checkpoint stores, so that what is measured is what ships."""
    for name, value in module.state_dict(keep_vars=True).items():
        if value.is_floating_point() and (only is None or name in only):
            value.copy_(value.half())


def data_fingerprint(samples: Sequence[Sample]) -> str:
    """A digest of names and scores: another data set, or another version of it, has another."""
    rows = [(s.path.name, s.prompt, round(s.mos, 6), round(s.mos_align, 6)) for s in samples]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
