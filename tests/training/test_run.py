"""A whole run in miniature: two stages, resume, checkpoint, evaluation, and what refuses to run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

import model
from app.cli import main
from tests.training.miniature import write_agiqa3k
from training.engine import Run
from training.errors import RecipeError, TrainingError
from training.recipe import Recipe, load_recipe
from training.run import train

RECIPE: Mapping[str, Any] = {
    "name": "miniature",
    "zooms": [1.0, 1.25],
    "crop_policy": {"size": 32, "stride": 24, "max_side": 64, "global_view": True},
    "split": {"shares": {"train": 0.5, "validation": 0.25, "test": 0.25}},
    "pretrain": {
        "architecture": {
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
        },
        "patch_dropout": 0.25,
        "schedule": {"epochs": 3, "batch": 6, "lr": 1.0e-3, "warmup_epochs": 0.5},
    },
    "tune": {"schedule": {"epochs": 2, "batch": 6, "lr": 1.0e-3}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_agiqa3k(tmp_path_factory.mktemp("AGIQA-3K"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def recipe(data: Path, folder: Path, **changes: Any) -> Recipe:
    places = {"data": data, "out": folder / "checkpoint", "work": folder / "work"}
    return Recipe.model_validate({**RECIPE, **places, **changes})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted((folder / "checkpoint").glob("*.safetensors"))
    return {f"{f.name} {k}": v for f in files for k, v in load_file(f).items()}


class Killed(Exception):
    pass


def test_a_run_writes_a_checkpoint_that_scores(data: Path, tmp_path: Path) -> None:
    report = train(recipe(data, tmp_path), "agiqa train miniature")
    scorer = model.load(str(tmp_path / "checkpoint"), device="cpu")
    score = scorer.score(next((data / "img").iterdir()), "prompt number 1,")
    for value in (score.quality, score.alignment, score.consistency):
        assert value is not None
        assert 0 < value < 1
    config = scorer.config
    assert config.provenance.metrics["quality_srcc"] == round(report.figures["quality_srcc"], 4)
    assert (config.score_range.low, config.score_range.high) == (0.0, 5.0)
    card = (tmp_path / "checkpoint" / "README.md").read_text()
    assert f"{report.figures['quality_srcc']:.3f}" in card
    assert f"{report.figures['floor_quality_srcc']:.3f}" in card
    assert "no-image floor" in card
    metrics = json.loads((tmp_path / "checkpoint" / "metrics.json").read_text())
    assert metrics["images"] == 9


@pytest.mark.parametrize("epoch", [2, 4], ids=["in pre-training", "in tuning"])
def test_a_stopped_run_resumes_to_bit_identical_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(recipe(data, whole), "x")
    saved = Run._save
    count = 0

    def save_and_stop(self: Run, *arguments: Any) -> None:
        nonlocal count
        saved(self, *arguments)
        count += 1
        if count == epoch:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_save", save_and_stop)
        with pytest.raises(Killed):
            train(recipe(data, stopped), "x")
    train(recipe(data, stopped), "x")
    first, second = weights(whole), weights(stopped)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_a_work_folder_of_other_settings_is_refused(data: Path, tmp_path: Path) -> None:
    train(recipe(data, tmp_path), "x")
    with pytest.raises(TrainingError, match="other settings"):
        train(recipe(data, tmp_path, seed=1), "x")


def test_the_backbone_can_be_shared(data: Path, tmp_path: Path) -> None:
    train(recipe(data, tmp_path, shared_backbone="backbone"), "x")
    assert (tmp_path / "backbone" / "backbone.safetensors").is_file()
    assert not (tmp_path / "checkpoint" / "backbone.safetensors").exists()
    assert model.load(str(tmp_path / "checkpoint")).config.backbone.sha256


def test_tuning_changes_the_declared_parameters_and_not_the_backbone(
    data: Path, tmp_path: Path
) -> None:
    train(recipe(data, tmp_path / "a"), "x")
    longer = {"schedule": {"epochs": 3, "batch": 6, "lr": 1.0e-3}}
    train(recipe(data, tmp_path / "b", tune=longer), "x")
    first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert not {name for name in changed if name.startswith("backbone")}
    assert len(changed) > 10


def test_evaluate_draws_the_checkpoint_s_own_split_again(data: Path, tmp_path: Path) -> None:
    report = train(recipe(data, tmp_path), "x")
    out = tmp_path / "report.json"
    arguments = ["evaluate", "--checkpoint", str(tmp_path / "checkpoint"), "--data", str(data)]
    result = CliRunner().invoke(main, [*arguments, "--dtype", "float32", "-o", str(out)])
    assert result.exit_code == 0, result.output
    measured = json.loads(out.read_text())
    assert measured["images"] == report.images
    for key, value in report.figures.items():
        assert measured["figures"][key] == pytest.approx(value, abs=1e-6)
    assert f"{report.figures['quality_srcc']:.4f}" in result.output
    assert len(measured["predictions"]) == 9


def test_evaluate_names_an_unknown_part(data: Path, tmp_path: Path) -> None:
    train(recipe(data, tmp_path), "x")
    arguments = ["--checkpoint", str(tmp_path / "checkpoint"), "--data", str(data)]
    result = CliRunner().invoke(main, ["evaluate", *arguments, "--part", "tset"])
    assert result.exit_code == 1
    assert "train, validation, test" in result.output


def test_a_loss_that_is_no_number_names_the_batch(data: Path, tmp_path: Path) -> None:
    broken = {**RECIPE["pretrain"], "weights": {"quality": float("nan")}}
    with pytest.raises(TrainingError, match=r"nan; the batch held .*\.jpg"):
        train(recipe(data, tmp_path, pretrain=broken), "x")


def test_a_recipe_names_every_fault_at_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**RECIPE, "data": "x", "out": "y", "work": "z"}))
    with pytest.raises(RecipeError, match=r"(?s)tune\.schedule\.epochs.*colour"):
        load_recipe(str(file), ["tune.schedule.epochs=many", "colour=blue"])


@pytest.mark.parametrize("setting", ["no-equals", "name.sub=1"], ids=["no value", "no section"])
def test_a_setting_that_can_not_be_applied_is_named(tmp_path: Path, setting: str) -> None:
    with pytest.raises(RecipeError, match=setting):
        load_recipe("tiny-clip-agiqa", [setting])


def test_an_unknown_recipe_lists_the_built_in_ones() -> None:
    with pytest.raises(RecipeError, match="tiny-clip-agiqa"):
        load_recipe("huge-clip-agiqa")


def test_the_recipe_of_the_bundled_model_is_valid() -> None:
    loaded = load_recipe("tiny-clip-agiqa", ["data=somewhere"])
    assert loaded.shared_backbone == "tiny-backbone"
