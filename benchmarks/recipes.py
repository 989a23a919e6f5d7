"""What the papers' recipes cost, counted on one training step of each with random weights:

    python -m benchmarks.recipes          prints the table of docs/reproduce.md

Nothing is timed. FLOPs (torch.utils.flop_counter) grow in a line with the images of a step; two
small steps tell the line. Memory is what a run is checked for before it starts. Images are taken as
512 x 512, which tells how many windows validation looks at; minutes are FLOPs over --tflops
sustained.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.clip.backbone import random_open_clip
from model.config import BackboneConfig
from model.methods.registry import build_network
from model.preprocess.windows import place_windows
from training.data.samples import Sample
from training.engine.memory import MemoryModel
from training.engine.task import Step
from training.methods.base import Objective, objective_type
from training.recipe import MethodRecipe, built_in_names, load_recipe
from training.sampling.batches import Batch

HEADER = (
    "| recipe | images | most epochs | batch x windows | PFLOP a round | minutes at 100 TFLOP/s "
    "| GiB of memory |"
)
# Steps on so many images tell what a step costs at all, and each image.
_FEW, _MORE = 1, 2
_SIDE = 512
# Views of a step of validation.
_VIEWS = 64


@dataclass(frozen=True)
class RecipeCost:
    """One line of the table: ``flops`` of a round with its validations, bytes of ``memory``."""

    name: str
    images: int
    epochs: int
    batch: int
    windows: int
    flops: float
    memory: float

    def line(self, tflops: float = 100) -> str:
        """As Markdown."""
        cells = [
            self.name,
            f"{self.images:,}",
            str(self.epochs),
            f"{self.batch} x {self.windows}",
            f"{self.flops / 1e15:.3g}",
            f"{self.flops / tflops / 1e12 / 60:.2g}",
            f"{self.memory / 2**30:.1f}",
        ]
        return f"| {' | '.join(cells)} |"


def paper_recipes() -> list[MethodRecipe]:
    """The built-in recipes on published backbones, their folders made up."""
    recipes = []
    for name in built_in_names():
        if "/" in name:
            settings = _made_up(name)
            recipe = load_recipe(name, settings)
            assert isinstance(recipe, MethodRecipe)
            recipes.append(recipe)
    return recipes


def _made_up(name: str) -> list[str]:
    from training.recipe import read_content

    content, _ = read_content(name)
    labels: Mapping[str, Any] = content.get("labels", {})
    return [
        *(f"data.{data}=somewhere" for data in content["data"]),
        *(f"labels.{data}=somewhere" for data in labels),
    ]


def cost(recipe: MethodRecipe) -> RecipeCost:
    """Counts one training step and one validation of an image."""
    task, step = built(recipe)
    few, more = (_counted(step, _batch(recipe, task, n)) for n in (_FEW, _MORE))
    training = few + (more - few) / (_MORE - _FEW) * (recipe.schedule.batch - _FEW)
    validation = _forward(task, recipe)
    images = sum(data.images for data in recipe.sets.values())
    shares = recipe.split.shares
    held = shares.get("validation", shares["train"] * recipe.split.inner)
    trained = shares["train"] if "validation" in shares else shares["train"] - held
    s = recipe.schedule
    steps = s.epochs * (s.steps or images * s.repeats * trained / s.batch)
    if _is_cached(recipe):  # each image once each way round, and the test part
        looked = images * (2 * (trained + held) + shares["test"]) * validation
    else:
        looked = images * (s.epochs / s.evaluate_every * held + shares["test"]) * validation
    return RecipeCost(
        recipe.name,
        images,
        s.epochs,
        s.batch,
        s.windows,
        steps * training + looked,
        memory_of(recipe, task).of(s).total,
    )


def _is_cached(recipe: MethodRecipe) -> bool:
    """Whether it trains on features of whole images."""
    return recipe.crop_policy.kind == "whole"


def memory_of(recipe: MethodRecipe, task: Objective[Any]) -> MemoryModel:
    """What its steps take in float32."""
    return MemoryModel(
        task,
        windows=recipe.schedule.windows,
        size=recipe.crop_policy.size,
        whole=task.wants_whole,
    )


def built(recipe: MethodRecipe) -> tuple[Objective[Any], Step]:
    """The recipe's task on a random backbone of its architecture."""
    assert isinstance(recipe.backbone, BackboneConfig)
    assert recipe.backbone.name
    torch.manual_seed(0)
    network = build_network(recipe.method, random_open_clip(recipe.backbone.name), recipe.options)
    kind = objective_type(recipe.method)
    weights = kind.weights_type.model_validate(recipe.weights)
    whole = recipe.crop_policy.global_view
    task: Objective[Any] = kind(network, weights, whole=whole, normalisation=recipe.normalisation)
    return task, Step(task)


def _batch(recipe: MethodRecipe, task: Objective[Any], images: int) -> Batch:
    size = recipe.crop_policy.size
    shape = (images, recipe.schedule.windows, 3, size, size)
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
    windows = torch.zeros(shape, dtype=torch.uint8)
    if _is_cached(recipe):
        windows = torch.zeros(images, 1, task.network.text_features().shape[-1])
    return Batch(windows, wholes, mos, mos, samples)


def _counted(step: Step, batch: Batch) -> float:
    """FLOPs of a step."""
    with FlopCounterMode(display=False) as counter:
        torch.stack(list(step(batch).values())).sum().backward()
    return float(counter.get_total_flops())


def _forward(task: Objective[Any], recipe: MethodRecipe) -> float:
    """FLOPs of looking at one image after an epoch, with its share of what a step of validation
    computes whatever it looks at: texts, say.
    """
    every = recipe.schedule.validate_on == "every" and recipe.crop_policy.kind != "whole"
    windows = len(place_windows(recipe.crop_policy, _SIDE, _SIDE).windows) if every else 1
    size = _SIDE if _is_cached(recipe) else recipe.crop_policy.size
    few, more = (_viewed(task, size, views) for views in (_FEW, _MORE))
    view = (more - few) / (_MORE - _FEW)
    return windows * view + (few - _FEW * view) / max(1, _VIEWS // windows)


def _viewed(task: Objective[Any], size: int, images: int) -> float:
    whole = torch.zeros(images, 3, size, size) if task.wants_whole else None
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        task.values(torch.zeros(images, 1, 3, size, size), whole, ["a prompt"] * images)
    return float(counter.get_total_flops())


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tflops", type=float, default=100, help="sustained, in 10^12 a second")
    tflops = parser.parse_args().tflops
    print(HEADER.replace("100 TFLOP/s", f"{tflops:g} TFLOP/s"))
    print("|---" * HEADER.count("|", 1) + "|")
    for recipe in paper_recipes():
        print(cost(recipe).line(tflops), flush=True)


if __name__ == "__main__":
    main()
