"""Runs a method's recipe: its training, its measurement on the test part, checkpoint and model card
(``training.backbone`` runs a backbone's).
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.clip.backbone import WEIGHTS, load_backbone
from model.config import BackboneConfig, CheckpointConfig, Provenance, ScoreRange
from model.methods.network import Network
from model.methods.policy import check_policy
from model.methods.registry import build_network
from model.scorer import Scorer
from model.seal import seal
from model.store.checkpoint import BUNDLED, save_checkpoint
from model.store.files import write_atomically
from training.engine.devices import precision_of, processes
from training.engine.memory import MemoryModel, free_memory, require_memory
from training.engine.state import Progress
from training.errors import TrainingError
from training.evaluation.degradation import Falls, clean, falls
from training.evaluation.evaluate import evaluate
from training.evaluation.results import Report, flat_figures
from training.manifest import write_manifest
from training.methods.base import Objective, objective_type
from training.prepared_data import PreparedData, require_folders
from training.provenance import provenance_of, round_to_16_bit, rounded
from training.recipe import MethodRecipe, Stage
from training.reports.backbone_card import DESCRIPTION, BackboneDescription
from training.reports.card import model_card
from training.reports.card_figures import card_figures
from training.sampling.features import Encodes, Features
from training.sampling.pictures import Shelf
from training.splits import leakage
from training.splits.split import Split


@dataclass(frozen=True)
class Trained:
    """What a training gave: a report per data set, and how it went."""

    config: CheckpointConfig
    reports: Mapping[str, Report]
    progress: Progress

    @property
    def figures(self) -> dict[str, float]:
        """By flat name."""
        return flat_figures(self.reports)


def train(recipe: MethodRecipe, command: str, shelf: Shelf | None = None) -> Trained | None:
    """Trains a method (resuming what a stopped run left), measures it once on the test part, and
    writes the checkpoint. Images that earlier runs left on the ``shelf`` are not decoded again.

    Returns:
        None in all processes but the main one.

    Raises:
        TrainingError: unusable data, a leak, too little memory, or a loss that is no number.
        CheckpointError: a backbone that can't be loaded or used.
    """
    require_folders(recipe)
    recipe.out.mkdir(parents=True, exist_ok=True)  # the backbone's path starts there
    backbone, before = find_backbone(recipe)
    recipe = sparing(recipe, before)
    clip = load_backbone(backbone, recipe.out)
    torch.manual_seed(recipe.seed + 1)
    task = task_of(recipe, clip)
    network = task.network
    _check_fit(recipe, network)
    _require_memory(recipe, task)
    shelf = shelf or Shelf()
    encoder = encoder_of(recipe, task)
    prepared = PreparedData.prepare(
        recipe, wholes=task.wants_whole, shelf=shelf, once=encoder is not None
    )
    refuse_seen(before, prepared)
    if processes(recipe.device).is_main_process:
        write_manifest(recipe.work, recipe, prepared, command)
    stage = Stage(name=recipe.name, data=dict.fromkeys(recipe.data, 1), schedule=recipe.schedule)
    features = None
    if encoder is not None:
        place = recipe.features or recipe.work / "features"
        features = Features(place, encoder, prepared.pictures, recipe.normalisation, shelf.features)
    standing_on, judged_by = backbone.sha256 or "", recipe.judged_by
    run = prepared.run(recipe, stage, task, recipe.seed, standing_on, judged_by, features=features)
    progress = run.fit()
    if recipe.calibrate:
        run.calibrate()
    if not processes(recipe.device).is_main_process:
        return None
    network.eval().requires_grad_(False)
    learned = set(network.trainable_parameters())
    round_to_16_bit(network, only=None if network.tunes_backbone else learned)
    config = _config(recipe, network, backbone, provenance_of(recipe, command, prepared, before))
    config, reports = publish(recipe, prepared, network, clip, config)
    write_manifest(recipe.out, recipe, prepared, command)
    return Trained(config, reports, progress)


def task_of(recipe: MethodRecipe, clip: nn.Module) -> Objective[Network]:
    """What the recipe trains on a backbone: its network, new, with its losses."""
    kind = objective_type(recipe.method)
    return kind(
        build_network(recipe.method, clip, recipe.options),
        kind.weights_type.model_validate(recipe.weights),
        whole=recipe.crop_policy.global_view,
        normalisation=recipe.normalisation,
    )


def encoder_of(recipe: MethodRecipe, task: Objective[Network]) -> Encodes | None:
    """What looks at each image once, whole, where it is these features that train; else None."""
    return task if recipe.crop_policy.kind == "whole" and isinstance(task, Encodes) else None


def memory_of(recipe: MethodRecipe, task: Objective[Network]) -> MemoryModel:
    """What the recipe's steps take, in its precision on its device."""
    encoder = encoder_of(recipe, task)
    precision = precision_of(recipe.schedule.precision, processes(recipe.device).device)
    return MemoryModel(
        task,
        windows=recipe.schedule.windows,
        size=recipe.crop_policy.size,
        whole=task.wants_whole,
        features=encoder.width if encoder else 0,
        dtype=torch.float32 if precision == "fp32" else torch.bfloat16,
    )


def _require_memory(recipe: MethodRecipe, task: Objective[Network]) -> None:
    """Before anything is decoded.

    Raises:
        TrainingError: its steps take more memory than there is.
    """
    here = processes(recipe.device)
    memory = memory_of(recipe, task)
    require_memory(memory, recipe.schedule, free_memory(here.device), here.num_processes)


def find_backbone(recipe: MethodRecipe) -> tuple[BackboneConfig, Provenance]:
    """The configuration of the recipe's backbone, and what is known of its training.

    Raises:
        DataError: the folder holds no backbone.
    """
    if isinstance(recipe.backbone, BackboneConfig):
        return recipe.backbone, Provenance()
    bundled = BUNDLED / recipe.backbone
    folder = bundled if (bundled / DESCRIPTION).is_file() else recipe.out / recipe.backbone
    described = BackboneDescription.read(folder / DESCRIPTION)
    relative = Path(os.path.relpath(folder / WEIGHTS, recipe.out)).as_posix()
    config = BackboneConfig(
        source="file",
        path=relative,
        architecture=described.architecture,
        sha256=described.sha256,
    )
    return config, described.provenance


def sparing(recipe: MethodRecipe, backbone: Provenance) -> MethodRecipe:
    """The recipe with the backbone's own split pinned, where it asks for that and the backbone saw
    its data under another split.
    """
    own = Split.of_provenance(backbone.split)
    met = set(recipe.data) & set(backbone.trained_on)
    if not (recipe.spare_backbone and met and own) or own.draws_as(recipe.split):
        return recipe
    split = recipe.split.model_copy(update={"pinned": own})
    return recipe.model_copy(update={"split": split})


def refuse_seen(backbone: Provenance, prepared: PreparedData) -> None:
    """Refuses a test or validation part of which the backbone was trained on a prompt or image.

    Raises:
        LeakError: names the first.
    """
    remedy = (
        "the backbone was pre-trained under another split; use the same one, set "
        "spare_backbone=true, or pre-train anew"
    )
    for name, parts in prepared.parts.items():
        for part in ("validation", "test"):
            leakage.refuse(parts.get(part, ()), backbone.seen, f"the {part} part of {name}", remedy)


def _config(
    recipe: MethodRecipe, network: Network, backbone: BackboneConfig, provenance: Provenance
) -> CheckpointConfig:
    # A backbone that learned is the checkpoint's own, whatever it started from.
    stored = backbone.model_copy(update=_OWN) if network.tunes_backbone else backbone
    served = recipe.served_policy
    return CheckpointConfig(
        name=recipe.name,
        revision=revision_of(network, backbone),
        method=recipe.method,
        backbone=stored,
        options=network.options.model_dump(mode="json"),
        heads=network.heads,
        crop_policy=served,
        measured_policy=None if served == recipe.crop_policy else recipe.crop_policy,
        normalisation=recipe.normalisation,
        score_range=_score_range(recipe),
        provenance=provenance,
    )


def _score_range(recipe: MethodRecipe) -> ScoreRange:
    """That of the one data set; sets of unlike ranges have none in common."""
    ranges = {data.score_range for data in recipe.sets.values()}
    return ranges.pop() if len(ranges) == 1 else ScoreRange()


def publish(
    recipe: MethodRecipe,
    prepared: PreparedData,
    network: Network,
    clip: nn.Module,
    config: CheckpointConfig,
) -> tuple[CheckpointConfig, dict[str, Report]]:
    """Measures the finished network on the ``measured_part`` of every data set and writes the
    checkpoint.
    """
    scorer = Scorer(config, network, device=recipe.device, dtype="float32")
    part = measured_part(recipe)
    served = _served(recipe, scorer, prepared, part)
    scorer = scorer.with_policy(recipe.crop_policy)
    reports = {name: evaluate(scorer, parts, part) for name, parts in prepared.parts.items()}
    fallen = _fallen(recipe, scorer, prepared)
    metrics = rounded(flat_figures(reports))
    provenance = config.provenance.model_copy(update={"metrics": metrics})
    config = config.model_copy(update={"provenance": provenance})
    figures = card_figures(reports)
    card = model_card(config, reports, recipe, figures, fallen)
    own = clip if config.backbone.source == "checkpoint" else None
    sets = {name: report.as_dict() for name, report in reports.items()}
    content: dict[str, Any] = next(iter(sets.values())) if len(sets) == 1 else {"sets": sets}
    if fallen is not None:
        content["degraded"] = asdict(fallen)
    if served:
        content["served"] = served
    for figure in figures:
        write_atomically(recipe.out / f"{figure.name}.{figure.kind}", figure.image)
    save_checkpoint(recipe.out, config, network, card=card, metrics=content, backbone=own)
    return seal(recipe.out), reports


def measured_part(recipe: MethodRecipe) -> str:
    """What a finished network is measured on: the validation part where other sets are the test."""
    return "test" if recipe.split.tests else "validation"


def _served(
    recipe: MethodRecipe, scorer: Scorer, prepared: PreparedData, part: str
) -> dict[str, float] | None:
    """The figures with the crops that the checkpoint serves; None where it is measured with
    those.
    """
    if recipe.served_policy == recipe.crop_policy:
        return None
    parts = prepared.parts.items()
    return rounded(flat_figures({name: evaluate(scorer, p, part) for name, p in parts}))


def _check_fit(recipe: MethodRecipe, network: Network) -> None:
    """Before hours of training: whether the network takes the crops that it is to be scored with,
    and has what is to be calibrated.

    Raises:
        TrainingError: it does not.
    """
    if recipe.calibrate and "consistency" not in network.heads:
        raise TrainingError(
            "calibrate sets the consistency with the user's prompt, and with these options "
            f"{recipe.method} has none: set calibrate=false"
        )
    try:
        for policy in (recipe.crop_policy, recipe.served_policy):
            check_policy(recipe.name, policy, network)
    except ValueError as error:
        raise TrainingError(str(error)) from error


def _fallen(recipe: MethodRecipe, scorer: Scorer, prepared: PreparedData) -> Falls | None:
    """How the quality of clean test images falls as they are degraded, if the recipe asks."""
    if not recipe.degraded_test:
        return None
    part = measured_part(recipe)
    test = [sample for parts in prepared.parts.values() for sample in parts[part]]
    return falls(scorer, clean(test, recipe.degraded_test))


_OWN = {"source": "checkpoint", "path": None, "pretrained": None, "sha256": None}


def revision_of(network: Network, backbone: BackboneConfig) -> str:
    """A digest of the weights, as stored: other scores, another revision."""
    digest = hashlib.sha256((backbone.sha256 or "").encode())
    for name, parameter in sorted(network.trainable_parameters().items()):
        digest.update(name.encode())
        digest.update(parameter.detach().half().numpy().tobytes())
    return digest.hexdigest()[:12]
