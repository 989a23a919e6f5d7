"""LIQE's training against its script, written out once more in float64."""

import math
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.config import CropPolicy
from model.methods.liqe import SHAPE
from model.methods.vocabulary import LIQE_DISTORTIONS, LIQE_SCENES
from tests.training.runs import METHOD, SCHEDULE
from training.data.samples import Sample
from training.methods.liqe import LiqeObjective, LiqeWeights, dynamic_weights, within_sets
from training.prepared_data import PreparedData
from training.recipe import MethodRecipe, Stage, load_recipe
from training.run import train
from training.sampling.batches import Batch

SCENES, DISTORTIONS = list(LIQE_SCENES.values()), list(LIQE_DISTORTIONS.values())
# Images of each set in a step.
SETS = {"LIVE": 3, "BID": 1, "KonIQ-10k": 5}


def batch() -> Batch:
    rng = torch.Generator().manual_seed(3)
    samples = []
    for name, count in SETS.items():
        for i in range(count):
            rating = float(torch.rand((), generator=rng, dtype=torch.float64))
            scenes = tuple(SCENES[i : i + 1 + i % 3])
            samples.append(
                Sample(name, Path("x"), "x", rating, scenes=scenes, distortion=DISTORTIONS[2 * i])
            )
    mos = torch.tensor([s.mos for s in samples], dtype=torch.float64)
    return Batch(torch.empty(0), None, mos, mos * math.nan, samples)


def logits() -> Tensor:
    rng = torch.Generator().manual_seed(4)
    return 3 * torch.randn(sum(SETS.values()), math.prod(SHAPE), generator=rng, dtype=torch.float64)


def losses(**weights: float) -> dict[str, float]:
    objective = object.__new__(LiqeObjective)
    objective.weights = LiqeWeights(**weights)
    found = objective.loss({"logits": logits()}, batch())
    return {name: float(value) for name, value in found.items()}


def script(values: Tensor, images: Batch, deviation: float) -> dict[str, float]:
    """One sum after another, as the script has them; pairs are those above the diagonal."""
    joint = values.softmax(1).view(-1, 5, 9, 11)
    quality = [sum((c + 1) * float(p) for c, p in enumerate(row.sum((1, 2)))) for row in joint]
    of_sets, start = [], 0
    for count in SETS.values():
        rows = range(start, start + count)
        start += count
        pairs = []
        for i in rows:
            for j in range(i + 1, start):
                gap = images.samples[i].mos - images.samples[j].mos
                g = 0.5 * ((gap > 0) - (gap < 0) + 1)
                p = 0.5 * (1 + math.erf((quality[i] - quality[j]) / deviation / math.sqrt(2)))
                pairs.append(fidelity(p, g))
        if pairs:
            of_sets.append(sum(pairs) / len(pairs))
    scene, distortion = [], []
    for row, sample in zip(joint, images.samples, strict=True):
        marks = [float(name in sample.scenes) for name in SCENES]
        each = [fidelity(float(p), g) for p, g in zip(row.sum((0, 2)), marks, strict=True)]
        scene.append(sum(each) / 9)
        marks = [float(name == sample.distortion) for name in DISTORTIONS]
        roots = [
            math.sqrt(float(p) * g + 1e-8) for p, g in zip(row.sum((0, 1)), marks, strict=True)
        ]
        distortion.append((1 - sum(roots)) / 11)
    return {
        "quality": sum(of_sets) / len(of_sets),
        "scene": sum(scene) / len(scene),
        "distortion": sum(distortion) / len(distortion),
    }


def fidelity(p: float, g: float) -> float:
    return 1 - math.sqrt(p * g + 1e-8) - math.sqrt((1 - p) * (1 - g) + 1e-8)


def test_the_three_losses_are_those_of_the_script() -> None:
    found = losses(deviation=1.0, distortion=1 / 11)
    assert found == pytest.approx(script(logits(), batch(), 1.0), abs=1e-9)


def test_by_itself_the_pairs_loss_is_the_papers_equation() -> None:
    expected = script(logits(), batch(), math.sqrt(2))["quality"]
    assert losses()["quality"] == pytest.approx(expected, abs=1e-9)


def test_texts_of_the_quality_alone_are_trained_on_pairs_alone() -> None:
    objective = object.__new__(LiqeObjective)
    objective.weights = LiqeWeights(deviation=1.0)
    few = logits()[:, :5]
    assert list(objective.loss({"logits": few}, batch())) == ["quality"]
    ranks = few.softmax(1) @ torch.arange(1, 6, dtype=torch.float64)
    same, mos = batch().same_set, batch().mos
    expected = within_sets(ranks * math.sqrt(2), mos, same)
    assert torch.equal(objective.loss({"logits": few}, batch())["quality"], expected)


def test_both_recipes_are_those_of_the_two_scripts() -> None:
    sets = ("LIVE", "CSIQ", "KADID-10k", "BID", "LIVE-Challenge", "KonIQ-10k")
    named = [f"{kind}.{name}=x" for kind in ("data", "labels") for name in sets]
    six = load_recipe("liqe/six-sets", named).model_dump()
    one = load_recipe("liqe/koniq-10k", ["data.KonIQ-10k=x"]).model_dump()
    assert [(r["schedule"]["epochs"], r["schedule"]["batch"]) for r in (six, one)] == [
        (80, 48),
        (6, 32),
    ]
    for recipe in (six, one):
        schedule = recipe["schedule"]
        assert (schedule["steps"], schedule["decay"], schedule["period"]) == (200, "waves", 5)
        assert recipe["crop_policy"] == CropPolicy.liqe().model_dump()
    assert six["weights"]["temperature"] == 2.0
    assert six["weights"]["distortion"] == pytest.approx(1 / 11)
    assert (one["options"], one["split"]["kind"]) == ({"texts": "quality"}, "official")


def test_a_set_of_many_pairs_counts_no_more_than_one_of_few() -> None:
    same = torch.block_diag(torch.ones(2, 2), torch.ones(1, 1), torch.ones(4, 4)).bool()
    target = torch.tensor([0.0, 1.0, 0.5, 0.1, 0.2, 0.3, 0.4])
    wrong = torch.tensor([9.0, 0.0, 0.0, 1.0, 20.0, 40.0, 60.0])  # the pair of the first set alone
    assert float(within_sets(wrong, target, same)) == pytest.approx(0.5, abs=1e-3)
    alone = torch.eye(7, dtype=torch.bool)
    assert float(within_sets(wrong, target, alone)) == 0


def test_weights_are_the_dynamic_average_of_liu_et_al() -> None:
    """Against the loop of their code: mean losses by epoch, one weight per task and epoch."""
    costs = [[0.40, 0.30, 0.05], [0.36, 0.29, 0.049], [0.30, 0.30, 0.02], [0.29, 0.10, 0.02]]
    tasks = ("quality", "scene", "distortion")
    history = [dict(zip(tasks, row, strict=True)) | {"quality_srcc_LIVE": 0.5} for row in costs]
    objective = object.__new__(LiqeObjective)
    objective.weights = LiqeWeights(temperature=2.0)
    for epoch in range(len(costs) + 1):
        weights = [1.0] * 3
        if epoch >= 2:
            ws = [costs[epoch - 1][k] / costs[epoch - 2][k] for k in range(3)]
            weights = [3 * math.exp(w / 2.0) / sum(math.exp(v / 2.0) for v in ws) for w in ws]
        found = objective.balance(history[:epoch])
        assert [found.get(task, 1.0) for task in tasks] == pytest.approx(weights, abs=1e-12)
        assert sum(found.values()) == pytest.approx(3 if epoch >= 2 else 0)


def test_without_a_temperature_and_for_a_loss_that_was_nothing_weights_stay() -> None:
    objective = object.__new__(LiqeObjective)
    objective.weights = LiqeWeights()
    assert objective.balance([{"quality": 1.0}, {"quality": 0.5}]) == {}
    assert dynamic_weights({"a": 0.0, "b": 1.0}, {"a": 0.3, "b": 1.0}, 2.0) == {"a": 1.0, "b": 1.0}


def test_a_run_on_several_sets_takes_its_quotas_in_every_step_and_scores_in_the_end(
    data: dict[str, Path], pretrained: Path, tmp_path: Path
) -> None:
    shutil.copytree(pretrained / "backbone", tmp_path / "backbone")
    torch.set_num_threads(1)
    quotas = {"AGIQA-3K": 2, "LIVE-Challenge": 4}
    own = {"steps": 4, "quotas": quotas, "degraded": 0, "decay": "waves", "period": 5, "epochs": 3}
    places = {"data": data, "out": tmp_path / "checkpoint", "work": tmp_path / "work"}
    changes = {"method": "liqe", "weights": {"temperature": 2.0}, "schedule": {**SCHEDULE, **own}}
    recipe = MethodRecipe.model_validate({**METHOD, **places, **changes, "degraded_test": 0})
    prepared = PreparedData.prepare(recipe, wholes=False)
    stage = Stage(name="liqe", data=dict.fromkeys(data, 1), schedule=recipe.schedule)
    run = prepared.run(recipe, stage, object.__new__(LiqeObjective), seed=0)
    steps = [batch for epoch in range(3) for batch in run.batches.epoch(epoch)]
    assert [Counter(s.dataset for s in step.samples) for step in steps] == [quotas] * 12
    assert all(len(step.windows) == 6 for step in steps)
    trained = train(recipe, "agiqa train liqe")
    assert trained is not None
    assert trained.progress.epochs == 3
    assert set(trained.reports) == set(data)
