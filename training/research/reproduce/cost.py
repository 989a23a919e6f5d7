"""What training a recipe costs: the work of a step and of looking at an image, and a step's memory,
counted on random weights; and how many steps, images and bytes a run makes of that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from model.clip.backbone import build, random_open_clip
from model.config import BackboneConfig
from model.preprocess.windows import place_windows
from training.data.samples import Sample
from training.engine.devices import processes
from training.engine.memory import MemoryModel
from training.engine.task import Step
from training.methods.base import Objective
from training.recipe import MethodRecipe
from training.run import encoder_of, find_backbone, memory_of, task_of
from training.sampling.batches import Batch

# An image's sides where its windows are counted.
_SIDE = 512
# Steps on so many images tell what a step costs at all, and each image.
_FEW, _MORE = 1, 2
# Views of a step of validation.
_VIEWS = 64
# Bytes of a parameter that learns in a stopped run's state: itself, its average, two moments, the
# best epoch's.
_STATE = 20
# Bytes that a cell keeps beside its checkpoint, about: report, predictions, card and plots.
_BESIDE = 2 * 2**20


@dataclass(frozen=True)
class Cost:
    """Of a recipe: ``step`` and ``validation`` are FLOPs of a training step and of looking at one
    image; ``memory`` bytes that a step takes on the device; ``learned`` parameters, which are what
    a checkpoint keeps; ``features`` bytes on disk that are kept of an image, for all cells.
    """

    step: float
    validation: float
    memory: float
    learned: int
    features: int = 0

    def kept(self, recipe: MethodRecipe, cells: int) -> int:
        """Bytes on disk of so many finished cells of an experiment."""
        return cells * (2 * self.learned + _BESIDE) + self.features * images_of(recipe)

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
    def of(cls, recipe: MethodRecipe, *, trained: bool = True, foreign: int = 0) -> "Size":
        """Of all epochs of a recipe on its sets as distributed, or of its test alone where nothing
        is ``trained``; official parts are taken as large as drawn ones. ``foreign`` images of
        other sets are looked at in the end.
        """
        shares, s = recipe.split.shares, recipe.schedule
        images = images_of(recipe)
        last = images * shares["test"] + foreign
        if not trained:
            return cls(0, round(last))
        inner = 0 if "validation" in shares else shares["train"] * recipe.split.inner
        learned_from = shares["train"] - inner
        judged = shares["test"] if recipe.judged_by == "test" else shares.get("validation", inner)
        steps = s.steps or max(1, int(images * learned_from) * s.repeats // s.batch)
        if trains_on_features(recipe):  # each image once each way round
            looked = 2 * (learned_from + judged)
        else:
            looked = s.epochs // s.evaluate_every * judged
        return cls(s.epochs * steps, round(images * looked + last))

    def flops(self, cost: Cost) -> float:
        """Of the whole cell."""
        return self.steps * cost.step + self.looked_at * cost.validation


def trains_on_features(recipe: MethodRecipe) -> bool:
    """Whether each image is looked at once, and its features trained on: so is CLIP-IQA+, the one
    method that learns from whole images.
    """
    return recipe.crop_policy.kind == "whole"


def images_of(recipe: MethodRecipe) -> int:
    """Of its sets, as they are distributed."""
    return sum(data.images for data in recipe.sets.values())


class Counts:
    """Counts each recipe once; those that differ in data and batch alone count as one."""

    def __init__(self) -> None:
        self._known: dict[str, _Counted] = {}

    def __call__(self, recipe: MethodRecipe) -> Cost:
        alike = recipe.model_dump_json(include=_COUNTED_BY)
        if alike not in self._known:
            self._known[alike] = _counted(recipe)
        found, s = self._known[alike], recipe.schedule
        each = (found.more - found.few) / (_MORE - _FEW)
        step = found.few + (s.batch + 2 * s.degraded - _FEW) * each
        memory = found.memory.of(s, processes(recipe.device).num_processes).total
        return Cost(step, found.validation, memory, found.learned, found.features)


_COUNTED_BY: dict[str, Any] = {
    **dict.fromkeys(("method", "backbone", "options", "weights"), True),
    **dict.fromkeys(("crop_policy", "normalisation", "device"), True),
    "schedule": {"windows", "validate_on", "precision"},
}


@dataclass(frozen=True)
class _Counted:
    """FLOPs of steps on few images and on more, which grow in a line with them; and what ``Cost``
    tells.
    """

    few: float
    more: float
    validation: float
    memory: MemoryModel
    learned: int
    features: int


def _counted(recipe: MethodRecipe) -> _Counted:
    task = random_task(recipe)
    encoder = encoder_of(recipe, task)
    width = encoder.width if encoder else 0
    few, more = (_of_step(task, _batch(recipe, task, images, width)) for images in (_FEW, _MORE))
    return _Counted(
        few,
        more,
        _looking(task, recipe),
        memory_of(recipe, task),
        learned=sum(p.numel() for p in task.trained().values()),
        features=2 * 4 * width,
    )


def random_task(recipe: MethodRecipe) -> Objective[Any]:
    """The recipe's task on a backbone of its architecture with random weights."""
    return task_of(recipe, _random_clip(recipe))


def _random_clip(recipe: MethodRecipe) -> nn.Module:
    named = recipe.backbone
    config = named if isinstance(named, BackboneConfig) else find_backbone(recipe)[0]
    if config.architecture is not None:
        return build(config.architecture)
    return random_open_clip(config.name or "")


def _batch(recipe: MethodRecipe, task: Objective[Any], images: int, width: int) -> Batch:
    """Black images, or so many numbers for the features of each."""
    size = recipe.crop_policy.size
    samples = [
        Sample("A", Path("x"), f"{i}", i / 4, i / 4, "x", scenes=("human",), distortion="blur")
        for i in range(images)
    ]
    mos = torch.tensor([sample.mos for sample in samples])
    wholes = torch.zeros(images, 3, size, size, dtype=torch.uint8) if task.wants_whole else None
    shape = (images, recipe.schedule.windows, 3, size, size)
    windows = torch.zeros(images, 1, width) if width else torch.zeros(shape, dtype=torch.uint8)
    return Batch(windows, wholes, mos, mos, samples)


def _of_step(task: Objective[Any], batch: Batch) -> float:
    """FLOPs of a step, forward and backward; the network runs on tensors without values, as a LIQE
    alone computes 495 texts.
    """
    learned = list(task.trained().values())
    with FlopCounterMode(display=False) as counter:
        with FakeTensorMode(allow_non_fake_inputs=True) as fake:
            windows = fake.from_tensor(batch.windows)
            wholes = None if batch.wholes is None else fake.from_tensor(batch.wholes)
            outputs = Step(task)._forward(windows, wholes)
            ends = [value.sum() for value in outputs.values() if value.requires_grad]
            if ends:
                torch.autograd.grad(ends, learned, allow_unused=True)
        known = {
            name: torch.zeros(value.shape, dtype=value.dtype, requires_grad=value.requires_grad)
            for name, value in outputs.items()
        }
        total = torch.stack(list(task.loss(known, batch).values())).sum()
        starts = [*learned, *(value for value in known.values() if value.requires_grad)]
        torch.autograd.grad(total, starts, allow_unused=True)
    return float(counter.get_total_flops())


def _looking(task: Objective[Any], recipe: MethodRecipe) -> float:
    """FLOPs of looking at one image after an epoch, with its share of what a step of validation
    computes whatever it looks at: texts, say.
    """
    policy, whole = recipe.crop_policy, trains_on_features(recipe)
    every = recipe.schedule.validate_on == "every" and policy.kind != "whole"
    windows = len(place_windows(policy, _SIDE, _SIDE).windows) if every else 1
    few, more = (_viewed(task, _SIDE if whole else policy.size, views) for views in (_FEW, _MORE))
    view = (more - few) / (_MORE - _FEW)
    return windows * view + (few - _FEW * view) / max(1, _VIEWS // windows)


@torch.no_grad()
def _viewed(task: Objective[Any], size: int, images: int) -> float:
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        FlopCounterMode(display=False) as counter,
    ):
        whole = torch.zeros(images, 3, size, size) if task.wants_whole else None
        task.values(torch.zeros(images, 1, 3, size, size), whole, ["a prompt"] * images)
    return float(counter.get_total_flops())
