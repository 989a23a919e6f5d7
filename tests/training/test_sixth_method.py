"""A sixth method is two files and two lines of registries: it trains, is measured, explained and
served, and takes part in experiments.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import model
from app.cli.main import main
from model.methods.network import Network
from model.methods.registry import METHODS, build_network
from model.store.checkpoint import PARAMETERS
from tests.app.test_worker_models import Desk
from tests.model import tiny
from tests.training.runs import METHOD, SCHEDULE
from training.methods.base import OBJECTIVES
from training.recipe import MethodRecipe
from training.research.experiments.definitions import variants_of
from training.research.explain.cam import explain
from training.research.explain.subject import Subject
from training.run import train

NAME = "linear-probe"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two lines."""
    objective = "tests.training.linear_probe_objective:LinearProbeObjective"
    monkeypatch.setitem(METHODS, NAME, "tests.training.linear_probe:LinearProbe")
    monkeypatch.setitem(OBJECTIVES, NAME, objective)


@pytest.fixture
def recipe(data: dict[str, Path], pretrained: Path, tmp_path: Path) -> MethodRecipe:
    torch.set_num_threads(1)
    shutil.copytree(pretrained / "backbone", tmp_path / "backbone")
    own = {
        "method": NAME,
        "options": {"gain": 2.0},
        "data": {"LIVE-Challenge": data["LIVE-Challenge"]},
        "out": tmp_path / "checkpoint",
        "work": tmp_path / "work",
        "schedule": {**SCHEDULE, "epochs": 1, "lr": 1e-2},
        "degraded_test": 0,
        "device": "cpu",
    }
    return MethodRecipe.model_validate({**METHOD, **own})


def test_it_trains_is_measured_explained_and_served(recipe: MethodRecipe) -> None:
    assert train(recipe, f"agiqa train {NAME}") is not None
    stored = load_file(recipe.out / PARAMETERS)
    assert stored.keys() == {"probe.weight", "probe.bias"}
    place = recipe.data["LIVE-Challenge"]
    image = tiny.picture(90, 70)
    scorer = model.load(str(recipe.out), device="cpu", dtype="float32")
    score = scorer.score(image)

    report = recipe.work / "report.json"
    arguments = ["evaluate", "--checkpoint", recipe.out, "--data", place, "-o", report]
    measured = CliRunner().invoke(main, [*map(str, arguments), "--device", "cpu"])
    assert measured.exit_code == 0, measured.output
    assert json.loads(report.read_text())["images"] == 9

    found = explain(Subject.load(recipe.out, device="cpu"), image)
    assert found.score == pytest.approx(score.quality, abs=1e-6)
    assert found.map.max() == 1

    desk = Desk([recipe.out])
    (served,) = desk.run(recipe.name, desk.piece(recipe.name, image))
    desk.arena.close()
    assert served.quality == pytest.approx(score.quality, abs=1e-5)
    assert served.crops == score.crops > 1


def test_its_own_ablations_are_an_experiment(recipe: MethodRecipe) -> None:
    assert [v.name for v in variants_of("ablation", recipe, {})] == ["full model", "flat"]


def test_only_what_it_declares_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(NAME, tiny.random_clip(), {})
    assert {n for n, p in network.named_parameters() if p.requires_grad} == {
        "probe.weight",
        "probe.bias",
    }
    monkeypatch.setattr(type(network), "trainable", ())
    frozen: Network = build_network(NAME, tiny.random_clip(), {})
    assert not any(p.requires_grad for p in frozen.parameters())
    monkeypatch.setattr(type(network), "trainable", ("prob",))
    with pytest.raises(AttributeError, match="prob"):
        build_network(NAME, tiny.random_clip(), {})
