"""``agiqa train`` and ``agiqa evaluate`` on several sets, sets of one's own, and other copies."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from app.cli.main import main
from tests.training.runs import METHODS, method_recipe

Data = dict[str, Path]


def written(sets: Data, pretrained: Path, folder: Path, method: str, **changes: Any) -> str:
    """A recipe file of the method that writes into ``folder``."""
    recipe = method_recipe(sets, pretrained, method)
    content = json.loads(recipe.model_dump_json(exclude_none=True))
    # YAML sorts keys, and the order of the shares counts.
    content |= {"backbone": str(pretrained / "backbone"), "out": str(folder / "checkpoint")}
    content |= {"work": str(folder / "work"), **changes}
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(file)


def run(*arguments: object) -> Result:
    torch.set_num_threads(1)
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_training_writes_a_report_a_manifest_and_curves(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    recipe = written(data, pretrained, tmp_path, "clip-agiqa")
    result = run("train", recipe)
    assert result.exit_code == 0, result.output
    assert "quality SRCC" in result.output
    html = (tmp_path / "work" / "report" / "report.html").read_text()
    assert "How it went" in html
    assert "no-image floor" in html
    manifest = json.loads((tmp_path / "checkpoint" / "manifest.json").read_text())
    assert manifest["data"] == {"AGIQA-3K": {"train": 18, "validation": 9, "test": 9}}
    assert manifest["recipe"]["seed"] == 0
    assert manifest["packages"]["torch"]
    assert str(data["AGIQA-3K"]) not in json.dumps(manifest)
    with (tmp_path / "work" / "miniature.metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert "quality_srcc_AGIQA-3K" in rows[0]
    assert list((tmp_path / "work" / "tensorboard" / "miniature").iterdir())


def test_a_step_that_fits_no_memory_is_refused_before_anything_is_read(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    recipe = written(data, pretrained, tmp_path, "clip-agiqa")
    result = run("train", recipe, "--set", "schedule.batch=1000000000")
    assert result.exit_code == 1
    assert "a training step takes about" in result.output
    assert "set a smaller schedule.batch" in result.output
    assert not (tmp_path / "work").exists()


@pytest.mark.figures
def test_one_method_learns_from_several_sets_and_is_measured_on_each(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    folders = {name: str(folder) for name, folder in data.items()}
    recipe = written(data, pretrained, tmp_path, "liqe", data=folders)
    result = run("train", recipe)
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    metrics = config["provenance"]["metrics"]
    each = [metrics[f"quality_srcc_{name}"] for name in data]
    assert metrics["quality_srcc"] == pytest.approx(sum(each) / 2, abs=1e-4)
    assert config["score_range"] == {"low": 0.0, "high": 1.0}
    card = (tmp_path / "checkpoint" / "README.md").read_text()
    for name, folder in data.items():
        assert f"test part of {name}" in card
        measured = run("evaluate", "--checkpoint", tmp_path / "checkpoint", "--data", folder)
        assert measured.exit_code == 0, measured.output
        assert f"{metrics[f'quality_srcc_{name}']:.4f}" in measured.output


def test_a_table_of_one_s_own_is_trained_on_once_its_scale_is_declared(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(data["LIVE-Challenge"] / "Images", mine / "Images")
    rows = (data["LIVE-Challenge"] / "labels.csv").read_text().splitlines()[1:]
    table = [f"{image},{100 - float(mos)}" for image, mos, *_ in (r.split(",") for r in rows)]
    (mine / "scores.csv").write_text("\n".join(["img_name,dmos", *table]) + "\n")
    recipe = written(data, pretrained, tmp_path, "mp-iqe", data={"mine": str(mine)})
    refused = run("train", recipe)
    assert refused.exit_code == 1
    assert "--set tables.mine.low=" in refused.output
    scale = [f"tables.mine.{key}" for key in ("low=0", "high=100", "lower_better=true")]
    result = run("train", recipe, *(x for setting in scale for x in ("--set", setting)))
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "checkpoint" / "metrics.json").read_text())
    assert metrics["figures"]["quality_srcc"] > 0.5  # brighter is better, as before
    measured = run(
        *("evaluate", "--checkpoint", tmp_path / "checkpoint", "--data", mine),
        *("--range", 0, 100, "--lower-better"),
    )
    assert measured.exit_code == 0, measured.output
    assert f"{metrics['figures']['quality_srcc']:.4f}" in measured.output


def test_labels_of_liqe_are_joined_to_a_set_without_them(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    mine, labels = tmp_path / "mine", tmp_path / "splits2" / "1"
    shutil.copytree(data["LIVE-Challenge"] / "Images", mine / "Images")
    labels.mkdir(parents=True)
    labelled = (data["LIVE-Challenge"] / "labels.csv").read_text().splitlines()[1:]
    rows = [row.split(",") for row in labelled]
    bare = "".join(f"{image},{mos}\n" for image, mos, *_ in rows)
    (mine / "scores.csv").write_text(f"image,mos\n{bare}")
    lines = [f"{image}\t{mos}\trealistic blur\thuman\tinvalid\tinvalid" for image, mos, *_ in rows]
    for part, some in (("train", lines[:20]), ("val", lines[20:29]), ("test", lines[29:])):
        (labels / f"livec_{part}_clip.txt").write_text("\n".join(some) + "\n")
    recipe = written(
        *(data, pretrained, tmp_path, "mp-iqe"),
        data={"mine": str(mine)},
        tables={"mine": {"low": 0, "high": 100}},
        labels={"mine": str(tmp_path / "splits2")},
    )
    result = run("train", recipe)
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "checkpoint" / "metrics.json").read_text())["figures"]
    assert figures["floor_scene_accuracy"] == 1.0  # all are "human"
    assert "distortion_accuracy" in figures
    # And the files' own split.
    own = ("split.kind=official", f"work={tmp_path}/official")
    result = run("train", recipe, *(x for setting in own for x in ("--set", setting)))
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "checkpoint" / "metrics.json").read_text())
    assert metrics["images"] == 7
    # The card's command measures it again, with the labels; without them the split is not known.
    scale = ("--range", 0, 100)
    command = ("evaluate", "--checkpoint", tmp_path / "checkpoint", "--data", mine, *scale)
    again = run(*command, "--labels", tmp_path / "splits2", "--report", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert f"{metrics['figures']['scene_accuracy']:.4f}" in again.output
    assert f"{metrics['figures']['quality_srcc']:.4f}" in again.output
    card = (tmp_path / "checkpoint" / "README.md").read_text()
    assert "--data mine --range 0 100 --labels IQA_Database" in card
    report = (tmp_path / "again" / "report.md").read_text()
    assert "--data mine --part test --range 0 100 --labels splits2" in report
    refused = run(*command)
    assert refused.exit_code == 1
    assert "no part of an official split" in refused.output


def test_a_checkpoint_is_measured_on_other_crops_than_its_own(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    recipe = written(data, pretrained, tmp_path, "clip-agiqa")
    assert run("train", recipe, "--no-report").exit_code == 0
    command = ("evaluate", "--checkpoint", tmp_path / "checkpoint", "--data", data["AGIQA-3K"])
    own, whole = run(*command), run(*command, "--crop-policy", "liqe", "--report", tmp_path / "r")
    assert (own.exit_code, whole.exit_code) == (0, 0), whole.output
    assert own.output.splitlines()[1:3] != whole.output.splitlines()[1:3]
    for figure in ("own_prompt_beats_another ", "consistency_srcc less permuted prompts "):
        assert figure in own.output
    assert "--part test --crop-policy liqe" in (tmp_path / "r" / "report.md").read_text()
    assert "--dtype" not in (tmp_path / "r" / "report.md").read_text()
    assert "'--crop-policy'" in run(*command, "--crop-policy", "many").output
    assert (
        "Error: miniature: whole images need a ResNet"
        in run(*command, "--crop-policy", "whole").output
    )


def test_the_published_protocol_is_named_wherever_its_figures_are(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    split = {"shares": {"train": 0.75, "test": 0.25}}
    recipe = written(data, pretrained, tmp_path, "mp-iqe", split=split)
    assert run("train", recipe, "--protocol", "paper").exit_code == 0
    assert "PUBLISHED PROTOCOL" in (tmp_path / "work" / "report" / "report.html").read_text()
    manifest = json.loads((tmp_path / "checkpoint" / "manifest.json").read_text())
    assert manifest["data"] == {"LIVE-Challenge": {"train": 27, "test": 9}}
    place = data[METHODS["mp-iqe"][0]]
    measured = run("evaluate", "--checkpoint", tmp_path / "checkpoint", "--data", place)
    assert "the epoch was chosen on the test part" in measured.output


def test_a_copy_on_which_the_split_would_leak_is_refused_and_the_unseen_rest_measured(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    recipe = written(data, pretrained, tmp_path, "clip-agiqa")
    assert run("train", recipe, "--no-report").exit_code == 0
    assert not (tmp_path / "work" / "report").exists()
    copy = tmp_path / "copy"
    shutil.copytree(data["AGIQA-3K"], copy)
    table = copy / "data.csv"
    lines = table.read_text().splitlines()
    gone = ("prompt number 0", "prompt number 1,", "prompt number 2")
    kept = [line for line in lines if not any(prompt in line for prompt in gone)]
    table.write_text("\n".join(kept) + "\n")
    arguments = ("evaluate", "--checkpoint", tmp_path / "checkpoint", "--data", copy)
    leak = run(*arguments)
    assert leak.exit_code == 1
    assert "were trained on" in leak.output
    assert "--part unseen" in leak.output
    rest = run(*arguments, "--part", "unseen")
    assert rest.exit_code == 0, rest.output
    whole = run(
        *("evaluate", "--checkpoint", tmp_path / "checkpoint", "--part", "unseen"),
        *("--data", data["AGIQA-3K"]),
    )
    assert "18 images, 6 groups" in whole.output  # validation and test


def test_rivals_and_the_report_stand_beside_the_figures(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    recipe = written(data, pretrained, tmp_path, "clip-agiqa")
    assert run("train", recipe, "--no-report").exit_code == 0
    with (data["AGIQA-3K"] / "data.csv").open() as file:
        rows = list(csv.DictReader(file))
    theirs = tmp_path / "theirs.csv"
    theirs.write_text(
        "image,score\n" + "".join(f"{r['name']},{-float(r['mos_quality'])}\n" for r in rows)
    )
    result = run(
        *("evaluate", "--checkpoint", tmp_path / "checkpoint", "--data", data["AGIQA-3K"]),
        *("--rival", f"{theirs}:lower", "--report", tmp_path / "report"),
    )
    assert result.exit_code == 0, result.output
    assert "srcc 1.0000" in result.output
    report = (tmp_path / "report" / "report.md").read_text()
    assert "Beside rivals" in report
    assert "0.8747" in report


def test_a_rival_that_is_none_is_refused_before_anything_is_scored(
    data: Data, tmp_path: Path
) -> None:
    result = run("evaluate", "--data", data["AGIQA-3K"], "--part", "all", "--rival", "nothing")
    assert result.exit_code == 1
    assert "names no rival" in result.output
