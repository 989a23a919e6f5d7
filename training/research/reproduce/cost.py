"""What training a recipe costs: the work of a step and the memory that its backward pass keeps,
counted on two small steps with random weights, and how many steps and bytes a run makes of that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model.clip.backbone import build, random_open_clip
from model.config import BackboneConfig
from model.methods.registry import build_network
from model.preprocess.windows import place_windows
from training.data.samples import Sample
from training.engine.task import Step
from training.methods.base import Objective, objective_type
from training.recipe import MethodRecipe
from training.run import find_backbone
from training.sampling.batches import Batch

# An image's sides where its windows are counted.
_SIDE = 512
# Bytes of a parameter that learns: itself, its gradient, two moments; and in a stopped run's state:
# itself, its average, two moments, the best epoch's.
_LEARNING, _STATE = 16, 20
# Bytes that a cell keeps beside its checkpoint, about: report, predictions, card and plots.
_BESIDE = 2 * 2**20


@dataclass(frozen=True)
class Cost:
    """Of a recipe: ``step`` and ``validation`` are FLOPs of a training step and of looking at one
    image; ``memory`` bytes that a step takes on the device; ``learned`` parameters, which are what
    a checkpoint keeps.
    """

    step: float
    validation: float
    memory: float
    learned: int

    @property
    def checkpoint(self) -> int:
        """Bytes on disk of a finished cell."""
        return 2 * self.learned + _BESIDE

    @property
    def state(self) -> int:
        """Bytes on disk of the cell that runs."""
        return _STATE * self.learned


# What a plan counts with; the one seam to a better estimate.
Counter = Callable[[MethodRecipe], Cost]


@dataclass(frozen=True)
class Size:
    """How much a cell computes: optimiser steps, and images that are looked at."""

    steps: int
    looked_at: int

    @classmethod
    def of(cls, recipe: MethodRecipe, *, trained: bool = True) -> "Size":
        """Of all epochs of a recipe on its sets as distributed, or of its test alone where nothing
        is ``trained``; official parts are taken as large as drawn ones.
        """
        shares, s = recipe.split.shares, recipe.schedule
        images = sum(data.images for data in recipe.sets.values())
        if not trained:
            return cls(0, round(images * shares["test"]))
        judged = shares.get("validation", shares["train"] * recipe.split.inner)
        learned_from = shares["train"] - (0 if "validation" in shares else judged)
        steps = s.epochs * max(1, int(images * learned_from) // s.batch)
        judgements = s.epochs // s.evaluate_every
        return cls(steps, round(images * (judgements * judged + shares["test"])))

    def flops(self, cost: Cost) -> float:
        """Of the whole cell."""
        return self.steps * cost.step + self.looked_at * cost.validation


class Counts:
    """Counts each recipe once; those that differ in data and schedule alone count as one."""

    def __init__(self) -> None:
        self._known: dict[str, _Counted] = {}

    def __call__(self, recipe: MethodRecipe) -> Cost:
        alike = recipe.model_dump_json(include=_COUNTED_BY)
        if alike not in self._known:
            self._known[alike] = _counted(recipe)
        found = self._known[alike]
        views = recipe.schedule.batch * recipe.schedule.windows
        step, kept = (
            one + (views - 1) * (two - one) for one, two in zip(found.one, found.two, strict=True)
        )
        weights = 4 * (found.parameters - found.learned) + _LEARNING * found.learned
        return Cost(step, found.validation, kept + weights, found.learned)


_COUNTED_BY = {"method", "backbone", "options", "weights", "crop_policy", "normalisation"}


@dataclass(frozen=True)
class _Counted:
    """FLOPs and kept bytes of steps on one view and on two: both grow in a line with the views."""

    one: tuple[float, float]
    two: tuple[float, float]
    validation: float
    parameters: int
    learned: int


def _counted(recipe: MethodRecipe) -> _Counted:
    task = _task(recipe)
    return _Counted(
        one=_of_step(Step(task), _batch(recipe, task, 1)),
        two=_of_step(Step(task), _batch(recipe, task, 2)),
        validation=_looking(task, recipe),
        parameters=sum(p.numel() for p in task.module.parameters()),
        learned=sum(p.numel() for p in task.trained().values()),
    )


def _task(recipe: MethodRecipe) -> Objective[Any]:
    kind = objective_type(recipe.method)
    return kind(
        build_network(recipe.method, _random_clip(recipe), recipe.options),
        kind.weights_type.model_validate(recipe.weights),
        whole=recipe.crop_policy.global_view,
        normalisation=recipe.normalisation,
    )


def _random_clip(recipe: MethodRecipe) -> nn.Module:
    named = recipe.backbone
    config = named if isinstance(named, BackboneConfig) else find_backbone(recipe)[0]
    if config.architecture is not None:
        return build(config.architecture)
    return random_open_clip(config.name or "")


def _batch(recipe: MethodRecipe, task: Objective[Any], images: int) -> Batch:
    size = recipe.crop_policy.size
    samples = [
        Sample(
            "A",
            Path(f"{i}.png"),
            f"{i}",
            i / 4,
            i / 4,
            f"a prompt {i}",
            scenes=("human",),
            distortion="blur",
        )
        for i in range(images)
    ]
    mos = torch.tensor([sample.mos for sample in samples])
    wholes = torch.zeros(images, 3, size, size, dtype=torch.uint8) if task.wants_whole else None
    windows = torch.zeros(images, 1, 3, size, size, dtype=torch.uint8)
    return Batch(windows, wholes, mos, mos, samples)


def _of_step(step: Step, batch: Batch) -> tuple[float, float]:
    parameters = {p.untyped_storage().data_ptr() for p in step.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            total = torch.stack(list(step(batch).values())).sum()
        total.backward()
    return float(counter.get_total_flops()), float(sum(kept.values()))


def _looking(task: Objective[Any], recipe: MethodRecipe) -> float:
    policy = recipe.crop_policy
    every = recipe.schedule.validate_on == "every" and policy.kind != "whole"
    windows = len(place_windows(policy, _SIDE, _SIDE).windows) if every else 1
    whole = torch.zeros(1, 3, policy.size, policy.size) if task.wants_whole else None
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        task.forward(torch.zeros(1, 1, 3, policy.size, policy.size), whole)
    return float(counter.get_total_flops()) * windows
