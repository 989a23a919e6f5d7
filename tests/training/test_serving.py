"""What was trained is served: crops with a ceiling, beside those that the figures are of."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import model
from app.cli.main import main
from model.config import CropPolicy
from model.methods.policy import serving_policy
from model.preprocess.windows import place_windows
from tests.training.runs import METHODS, method_recipe
from training.errors import TrainingError
from training.run import train

PHOTOGRAPH = (4000, 3000)
OFFICIAL = {"kind": "official", "size": 32, "stride": 24}
Data = dict[str, Path]


@pytest.fixture
def folder(pretrained: Path, tmp_path: Path) -> Path:
    """A folder of one's own with the backbone in it."""
    shutil.copytree(pretrained / "backbone", tmp_path / "backbone")
    return tmp_path


@pytest.mark.parametrize(
    "measured",
    [CropPolicy.official(), CropPolicy.random(), CropPolicy.whole(), CropPolicy.liqe()],
    ids=lambda policy: policy.kind,
)
def test_every_published_protocol_is_served_with_a_ceiling_and_always_the_same_windows(
    measured: CropPolicy,
) -> None:
    serving = serving_policy(measured)
    grid = place_windows(serving, *PHOTOGRAPH)
    assert len(grid.windows) <= 64
    assert max(grid.window) <= 2048
    assert serving.kind != "random"
    assert serving.size == measured.size


def test_a_policy_that_has_a_ceiling_is_served_as_it_is() -> None:
    for policy in (CropPolicy(max_windows=3, global_view=True), CropPolicy.whole(max_side=512)):
        assert serving_policy(policy) == policy
    assert serving_policy(CropPolicy.random(32)) == CropPolicy(size=32)


@pytest.mark.parametrize("method", ["clip-agiqa", "mp-iqe"])
def test_a_trained_checkpoint_says_both_policies_and_serves_a_photograph_of_12_megapixels(
    data: Data, folder: Path, method: str
) -> None:
    policy = OFFICIAL if method == "clip-agiqa" else {"kind": "random", "size": 32}
    trained = train(method_recipe(data, folder, method, crop_policy=policy), "x")
    assert trained is not None
    scorer = model.load(str(folder / "checkpoint"), device="cpu")
    assert scorer.config.measured_policy == CropPolicy.model_validate(policy)
    assert scorer.config.crop_policy == scorer.planner.policy == CropPolicy(size=32)
    assert scorer.plan(*PHOTOGRAPH, ("quality",)).windows <= 64
    by_name = model.load(str(folder / "checkpoint"), device="cpu", crop_policy=str(policy["kind"]))
    assert by_name.planner.policy == scorer.config.measured_policy


def test_evaluate_measures_both_policies(data: Data, folder: Path) -> None:
    trained = train(method_recipe(data, folder, crop_policy=OFFICIAL), "x")
    assert trained is not None
    shipped = json.loads((folder / "checkpoint" / "metrics.json").read_text())
    card = (folder / "checkpoint" / "README.md").read_text()
    assert "--crop-policy official" in " ".join(card.split())
    place = data[METHODS["clip-agiqa"][0]]
    out, report = folder / "report.json", folder / "report"
    arguments = ["evaluate", "--checkpoint", str(folder / "checkpoint"), "--data", str(place)]
    arguments += ["-o", str(out), "--report", str(report)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    measured = json.loads(out.read_text())
    served = measured["served"]
    assert measured["figures"] == pytest.approx(shipped["figures"], abs=1e-6)
    assert served == pytest.approx(shipped["served"], abs=1e-4)
    assert served["quality_rmse"] != measured["figures"]["quality_rmse"]
    assert f"{served['quality_srcc']:7.4f}" in result.output.partition("served, it takes 'grid'")[2]
    assert "As served" in (report / "report.html").read_text()


def test_a_recipe_that_serves_what_it_measures_says_one_policy(data: Data, folder: Path) -> None:
    trained = train(method_recipe(data, folder), "x")
    assert trained is not None
    assert trained.config.measured_policy is None
    assert "served" not in json.loads((folder / "checkpoint" / "metrics.json").read_text())


@pytest.mark.parametrize("serve", [{"size": 64}, {"kind": "whole", "size": 32}])
def test_crops_that_the_network_cannot_take_are_refused_before_training(
    data: Data, folder: Path, serve: dict[str, Any]
) -> None:
    with pytest.raises(TrainingError, match=r"crop policy.s size|whole images need a ResNet"):
        train(method_recipe(data, folder, serve_policy=serve), "x")
    assert not list((folder / "work-clip-agiqa").glob("*.pt"))
