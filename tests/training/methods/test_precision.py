"""What the towers' precision may change: three steps of every recipe in float32 and in bfloat16."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor

from model.methods.mp_iqe import MpIqe
from model.methods.network import Network, normalise
from model.methods.registry import build_network
from model.methods.vocabulary import DISTORTIONS, SCENES
from tests.model import tiny
from training.data.samples import Sample
from training.engine.devices import Precision, accelerator_for
from training.engine.schedule import Schedule
from training.engine.task import Step, Task
from training.methods.base import Objective, objective_type
from training.methods.pretrain import Pretraining
from training.recipe import BackboneRecipe, MethodRecipe, built_in_names, read_content, validated
from training.sampling.batches import Batch

IMAGES = 6
RECIPES = built_in_names()
# Of the papers' methods: their code trains in fp32.
PAPERS = [name for name in RECIPES if not name.startswith("tiny-")]

# The most that bfloat16 towers change, over three steps: each loss by a share of itself, and the
# scores, which lie in [0, 1], after them.
LOSSES, SCORES = 0.04, 0.03


def loaded(name: str) -> BackboneRecipe | MethodRecipe:
    content, called = read_content(name)
    for folders in ("data", "labels"):
        if folders in content:
            content[folders] = dict.fromkeys(content[folders], f"{folders}-of-it")
    if "words" in content:
        content["words"]["folder"] = "wordnet"
    return validated(content, called)


def task_of(recipe: BackboneRecipe | MethodRecipe) -> Task:
    """The recipe's task, on the same random CLIP at every call."""
    clip = tiny.random_clip()
    torch.manual_seed(0)
    if isinstance(recipe, BackboneRecipe):
        sources = ["generator 0", "generator 1"]
        return Pretraining(clip, sources, recipe.weights, recipe.patch_dropout)
    return objective_of(build_network(recipe.method, clip, recipe.options), recipe)


def objective_of(network: Network, recipe: MethodRecipe) -> Objective[Network]:
    # As strict as CLIP: its scale, which the tiny one's random start does not have.
    network.logit_scale.data.fill_(float(torch.tensor(100.0).log()))
    if isinstance(network, MpIqe):  # so narrow a decoder's first scores would all be clipped
        cast(Tensor, network.decoder.head[-1].weight).data.mul_(0.1)
    kind = objective_type(recipe.method)
    weights = kind.weights_type.model_validate(recipe.weights)
    return cast(Objective[Network], kind(network, weights, whole=recipe.crop_policy.global_view))


def batch_of(seed: int, windows: int, images: int = IMAGES) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (images, windows + 1, 3, 224, 224), generator=draw)
    pixels = pixels.to(torch.uint8)
    mos, align = torch.rand(2, images, generator=draw)
    samples = [
        Sample(
            "LIVE" if i % 3 else "CSIQ",
            Path(f"{i}.png"),
            str(i),
            float(mos[i]),
            prompt=f"picture {i // 2}",
            generator="generator",
            mode=str(i % 2),
            scenes=SCENES[i : i + 1 + i % 2],
            distortion=DISTORTIONS[i % len(DISTORTIONS)],
        )
        for i in range(images)
    ]
    return Batch(pixels[:, :-1], pixels[:, -1], mos, align, samples)


def schedule_of(recipe: BackboneRecipe | MethodRecipe) -> Schedule:
    return recipe.stages[-1].schedule if isinstance(recipe, BackboneRecipe) else recipe.schedule


def three_steps(
    recipe: BackboneRecipe | MethodRecipe, precision: Precision
) -> tuple[list[float], Mapping[str, Tensor]]:
    """The loss before each step, and every head's scores after them."""
    torch.set_num_threads(1)
    schedule = schedule_of(recipe)
    accelerator = accelerator_for("cpu", precision)
    task = task_of(recipe)
    optimiser = schedule.optimiser_of(task.trained(), task.hidden_maps())
    step, optimiser = accelerator.prepare(Step(task), optimiser)
    losses = []
    for number in range(3):
        torch.manual_seed(number)
        total = torch.stack(list(step(batch_of(number, schedule.windows)).values())).sum()
        optimiser.zero_grad()
        accelerator.backward(total)
        optimiser.step()
        losses.append(float(total.detach()))
    seen = batch_of(3, schedule.windows)
    assert seen.wholes is not None
    windows, wholes = (normalise(v, task.normalisation) for v in (seen.windows, seen.wholes))
    with torch.no_grad(), accelerator.autocast():
        scores = task.values(windows, wholes, [s.prompt for s in seen.samples])
    return losses, scores


@pytest.mark.parametrize("name", RECIPES)
def test_three_steps_in_bfloat16_are_those_of_float32_but_for_rounding(name: str) -> None:
    recipe = loaded(name)
    exact, scores = three_steps(recipe, "fp32")
    rounded, rounded_scores = three_steps(recipe, "bf16")
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=LOSSES)
    assert scores.keys() == rounded_scores.keys()
    for head, values in scores.items():
        torch.testing.assert_close(
            rounded_scores[head].double(), values.double(), rtol=0, atol=SCORES
        )


@pytest.mark.parametrize(
    "name", ["clip-agiqa/agiqa-3k", "clip-iqa-plus/agiqa-3k", "mp-iqe/live", "liqe/six-sets"]
)
def test_images_that_differ_have_scores_that_differ_in_bfloat16(name: str) -> None:
    recipe = loaded(name)
    accelerator = accelerator_for("cpu", "bf16")
    task = task_of(recipe)
    windows = normalise(batch_of(0, 1, images=60).windows, task.normalisation)
    with torch.no_grad(), accelerator.autocast():
        quality = task.values(windows, None, [""] * len(windows))["quality"]
    assert quality.dtype == torch.float32
    assert len(quality.unique()) == len(windows)


@pytest.mark.parametrize("name", PAPERS)
def test_recipes_with_the_papers_settings_train_in_float32(name: str) -> None:
    assert schedule_of(loaded(name)).precision == "fp32"
