"""Whole runs in miniature: pre-training, every method, resume, checkpoint, evaluation."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import model
from app.cli.main import main
from model.methods.vocabulary import DISTORTIONS, SCENES
from tests.training.runs import (
    METHODS,
    SCHEDULE,
    backbone_recipe,
    method_recipe,
    weights,
)
from training.backbone import pretrain
from training.engine.loop import Run
from training.errors import LeakError, TrainingError
from training.recipe import MethodRecipe
from training.run import Trained
from training.run import train as train_

Data = dict[str, Path]


def train(recipe: MethodRecipe, command: str) -> Trained:
    trained = train_(recipe, command)
    assert trained is not None
    return trained


@pytest.fixture
def folder(pretrained: Path, tmp_path: Path) -> Path:
    """A folder of one's own with the backbone in it."""
    shutil.copytree(pretrained / "backbone", tmp_path / "backbone")
    torch.set_num_threads(1)
    return tmp_path


class Killed(Exception):
    pass


def stop_after(patch: pytest.MonkeyPatch, epochs: int) -> None:
    """Ends the process, as it were, right after that many epochs were saved."""
    saved, count = Run._save, 0

    def save_and_stop(self: Run, *arguments: Any) -> None:
        nonlocal count
        saved(self, *arguments)
        count += 1
        if count == epochs:
            raise Killed

    patch.setattr(Run, "_save", save_and_stop)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_to_a_checkpoint_that_scores(
    data: Data, folder: Path, method: str
) -> None:
    report = train(method_recipe(data, folder, method), f"agiqa train {method}")
    scorer = model.load(str(folder / "checkpoint"), device="cpu", dtype="float32")
    name, _ = METHODS[method]
    picture = next(path for path in data[name].rglob("*") if path.suffix.lower() == ".jpg")
    prompt = "prompt number 1," if method == "clip-agiqa" else None
    score = scorer.score(picture, prompt)
    for head in scorer.config.heads:
        assert 0 <= getattr(score, head) <= 1
    assert set(score.scene or ()) == (set(SCENES) if method in {"mp-iqe", "liqe"} else set())
    config = scorer.config
    assert config.provenance.metrics["quality_srcc"] == round(report.figures["quality_srcc"], 4)
    assert config.score_range.high == (5.0 if name == "AGIQA-3K" else 100.0)
    card = (folder / "checkpoint" / "README.md").read_text()
    assert f"{report.figures['quality_srcc']:.3f}" in card
    assert "It is a miniature." in card
    metrics = json.loads((folder / "checkpoint" / "metrics.json").read_text())
    assert metrics["images"] == 9
    assert (folder / "checkpoint" / "backbone.safetensors").exists() == (method == "liqe")


@pytest.mark.parametrize("method", METHODS)
def test_training_changes_what_is_declared_and_nothing_else(
    data: Data, folder: Path, method: str
) -> None:
    before = weights(folder / "backbone")
    train(method_recipe(data, folder, method), "x")
    first = weights(folder / "checkpoint")
    shutil.rmtree(folder / "checkpoint")
    # Stored in 16 bit: steps must be large enough to be seen.
    longer = {"schedule": {**SCHEDULE, "epochs": 3, "lr": 3.0e-2}}
    train(method_recipe(data, folder, method, work=folder / "other", **longer), "x")
    second = weights(folder / "checkpoint")
    same = [name for name in first if torch.equal(first[name], second[name])]
    frozen = ("running_mean", "running_var", "num_batches_tracked", "logit_scale")
    assert [name for name in same if not name.endswith(frozen)] == []
    for name, value in weights(folder / "backbone").items():
        assert torch.equal(value, before[name]), name


def test_the_figures_of_both_sets_and_what_was_seen_lie_beside_the_backbone(
    pretrained: Path,
) -> None:
    described = json.loads((pretrained / "backbone" / "backbone.json").read_text())
    figures = described["provenance"]["metrics"]
    assert set(figures) == {
        "quality_srcc_AGIQA-3K",
        "alignment_srcc_AGIQA-3K",
        "quality_srcc_LIVE-Challenge",
    }
    assert described["provenance"]["trained_on"] == ["AGIQA-3K", "LIVE-Challenge"]
    card = (pretrained / "backbone" / "README.md").read_text()
    assert "2 epochs on AGIQA-3K (x1), LIVE-Challenge (x2)" in card


def test_cards_show_the_floor_and_accuracies_where_there_are_any(data: Data, folder: Path) -> None:
    report = train(method_recipe(data, folder), "x")
    card = (folder / "checkpoint" / "README.md").read_text()
    assert "no-image floor" in card
    assert "The 2 best-rated images of the test part, made worse" in " ".join(card.split())
    for plot in ("quality", "reliability", "alignment", "consistency"):
        assert f"]({plot}.svg)" in card
        assert (folder / "checkpoint" / f"{plot}.svg").read_text().lstrip().startswith("<?xml")
    assert f"{report.figures['floor_quality_srcc']:.3f}" in card
    photographs = train(method_recipe(data, folder, "mp-iqe", out=folder / "photographs"), "x")
    card = (folder / "photographs" / "README.md").read_text()
    assert "no-image floor" not in card
    assert f"scene is right for {photographs.figures['scene_accuracy']:.0%}" in card
    assert 0 <= photographs.figures["distortion_accuracy"] <= 1
    assert len(DISTORTIONS) == 11


@pytest.mark.parametrize("epoch", [1, 3], ids=["first stage", "second stage"])
def test_stopped_pre_training_resumes_to_bit_identical_weights(
    data: Data, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    torch.set_num_threads(1)
    with monkeypatch.context() as patch:
        stop_after(patch, epoch)
        with pytest.raises(Killed):
            pretrain(backbone_recipe(data, tmp_path), "x")
    pretrain(backbone_recipe(data, tmp_path), "x")
    first, second = weights(pretrained / "backbone"), weights(tmp_path / "backbone")
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_method_resumes_to_bit_identical_weights(
    data: Data, folder: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    train(method_recipe(data, folder, method, out=folder / "whole"), "x")
    again = {"out": folder / "stopped", "work": folder / "again"}
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Killed):
            train(method_recipe(data, folder, method, **again), "x")
    train(method_recipe(data, folder, method, **again), "x")
    first, second = weights(folder / "whole"), weights(folder / "stopped")
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_a_work_folder_of_other_settings_is_refused(data: Data, folder: Path) -> None:
    train(method_recipe(data, folder), "x")
    with pytest.raises(TrainingError, match="other settings"):
        train(method_recipe(data, folder, seed=1), "x")


def test_a_run_on_another_backbone_is_not_resumed(data: Data, folder: Path) -> None:
    train(method_recipe(data, folder), "x")
    pretrain(backbone_recipe(data, folder, seed=5, work=folder / "anew"), "x")
    with pytest.raises(TrainingError, match="other settings"):
        train(method_recipe(data, folder), "x")


def test_a_backbone_that_may_have_seen_the_test_images_is_refused(data: Data, folder: Path) -> None:
    other = {"seed": 7, "shares": {"train": 0.5, "validation": 0.25, "test": 0.25}}
    with pytest.raises(LeakError, match="under another split"):
        train(method_recipe(data, folder, split=other), "x")


def test_a_folder_without_a_backbone_is_named(data: Data, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no backbone of ours"):
        train(method_recipe(data, tmp_path), "x")


@pytest.mark.parametrize("method", ["clip-agiqa", "mp-iqe"])
def test_evaluate_draws_the_checkpoint_s_own_split_again(
    data: Data, folder: Path, method: str
) -> None:
    report = train(method_recipe(data, folder, method), "x")
    out = folder / "report.json"
    place = data[METHODS[method][0]]
    arguments = ["evaluate", "--checkpoint", str(folder / "checkpoint"), "--data", str(place)]
    arguments += ["--dtype", "float32", "--degraded", "2", "-o", str(out)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    measured = json.loads(out.read_text())
    shipped = json.loads((folder / "checkpoint" / "metrics.json").read_text())["degraded"]
    assert measured["degraded"]["images"] == shipped["images"] == 2
    for kind, qualities in shipped["quality"].items():
        assert measured["degraded"]["quality"][kind] == pytest.approx(qualities, abs=1e-5)
        assert f"{shipped['srcc'][kind]:7.4f}" in result.output
    assert measured["images"] == next(iter(report.reports.values())).images
    for key, value in report.figures.items():
        assert measured["figures"][key] == pytest.approx(value, abs=1e-6)
    assert f"{report.figures['quality_srcc']:.4f}" in result.output
    assert len(measured["predictions"]) == 9


def test_evaluate_names_an_unknown_part_and_a_set_that_training_did_not_split(
    data: Data, folder: Path
) -> None:
    train(method_recipe(data, folder), "x")
    arguments = ["evaluate", "--checkpoint", str(folder / "checkpoint"), "--data"]
    result = CliRunner().invoke(main, [*arguments, str(data["AGIQA-3K"]), "--part", "tset"])
    assert result.exit_code == 1
    assert "train, validation, test" in result.output
    result = CliRunner().invoke(main, [*arguments, str(data["LIVE-Challenge"])])
    assert result.exit_code == 1
    assert "not trained on LIVE-Challenge" in result.output
    result = CliRunner().invoke(main, [*arguments, str(data["LIVE-Challenge"]), "--part", "all"])
    assert result.exit_code == 0, result.output
    assert "36 images" in result.output


def test_calibration_without_a_consistency_is_refused(data: Data, folder: Path) -> None:
    with pytest.raises(TrainingError, match="liqe has none: set calibrate=false"):
        train(method_recipe(data, folder, "liqe", calibrate=True), "x")


def test_a_loss_that_is_no_number_names_the_batch(data: Data, folder: Path) -> None:
    broken: dict[str, Any] = {"weights": {"quality": float("nan")}}
    with pytest.raises(TrainingError, match=r"nan .*; the batch held .*\.jpg"):
        train(method_recipe(data, folder, **broken), "x")
