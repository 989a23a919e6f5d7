"""Experiments in miniature, through the command line: the grid, its report, and being killed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from app.cli.main import main
from tests.training.runs import METHODS, method_recipe, with_backbone
from training.engine.loop import Run

Data = dict[str, Path]


def recipe_file(data: Data, pretrained: Path, folder: Path, method: str, **changes: Any) -> str:
    recipe = method_recipe(data, pretrained, method, **changes)
    content = json.loads(recipe.model_dump_json(exclude_none=True))
    content["backbone"] = str(pretrained / "backbone")
    file = folder / f"{method}.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


def run(kind: str, recipe: str, out: Path, *options: str) -> Result:
    torch.set_num_threads(1)
    return CliRunner().invoke(main, ["experiment", kind, recipe, "-o", str(out), *options])


def results(out: Path) -> dict[str, dict[str, Any]]:
    return {
        str(path.parent.relative_to(out / "cells")): json.loads(path.read_text())
        for path in sorted(out.rglob("result.json"))
    }


def test_rounds_of_generated_images_leave_each_generator_out_once(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(data, pretrained, tmp_path, "clip-agiqa")
    out = tmp_path / "out"
    invoked = run("rounds", recipe, out, "--rounds", "2")
    assert invoked.exit_code == 0, invoked.output
    found = results(out)
    left_out = {"without-attngan", "without-midjourney", "without-sd1.5"}
    assert set(found) == {
        "full-model/round-0",
        "full-model/round-1",
        *(f"{name}/round-0" for name in left_out),
    }
    first, second = (found[f"full-model/round-{i}"]["recipe"]["split"]["seed"] for i in (0, 1))
    assert second == first + 1
    report = (out / "report.md").read_text()
    assert "pre-trained on 6 of the 12 prompts" in report
    assert "rounds of our own: the paper's rounds are drawn from all 300 prompts" in report
    assert "Leave-one-generator-out" in report
    assert "0.8747" in report
    html = (out / "report.html").read_text()
    assert "t-SNE" in html


def test_a_stopped_experiment_goes_on_where_it_was(
    data: Data, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_file(data, pretrained, tmp_path, "mp-iqe")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run("ablation", recipe, whole).exit_code == 0
    saved, count = Run._save, 0

    def save_and_stop(self: Run, *arguments: Any) -> None:
        nonlocal count
        saved(self, *arguments)
        count += 1
        if count == 3:  # in the middle of the second run
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_save", save_and_stop)
        assert run("ablation", recipe, stopped).exit_code != 0
    assert set(results(stopped)) == {"full-model/round-0"}
    states = [path.relative_to(stopped / "cells").parts[0] for path in stopped.rglob("*.state.pt")]
    assert states == ["without-scene-prompts"]  # only of the run that was stopped
    begun = (stopped / "cells/full-model/round-0/result.json").stat().st_mtime_ns
    assert run("ablation", recipe, stopped).exit_code == 0
    assert (stopped / "cells/full-model/round-0/result.json").stat().st_mtime_ns == begun
    assert "What it looks at" in (stopped / "report.md").read_text()
    assert not [*whole.rglob("*.state.pt"), *stopped.rglob("*.state.pt")]
    one, other = results(whole), results(stopped)
    assert len(one) == 6
    for name, result in one.items():
        assert result["reports"] == other[name]["reports"], name
        assert result["history"] == other[name]["history"], name


def test_results_of_other_settings_are_not_taken_for_these(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(data, pretrained, tmp_path, "clip-iqa-plus")
    out = tmp_path / "out"
    assert run("rounds", recipe, out, "--rounds", "1").exit_code == 0
    again = run("rounds", recipe, out, "--rounds", "1", "--set", "schedule.lr=0.5")
    assert again.exit_code == 1
    assert "measured with other settings" in again.output


def test_other_data_sets_are_measured_as_a_whole_beside_the_published_figure(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(data, pretrained, tmp_path, "mp-iqe")
    shutil.copytree(data["AGIQA-3K"], tmp_path / "generated")
    out = tmp_path / "out"
    invoked = run("cross-dataset", recipe, out, "--test", f"AGIQA-3K={tmp_path / 'generated'}")
    assert invoked.exit_code == 0, invoked.output
    (result,) = results(out).values()
    assert result["also"]["AGIQA-3K"]["images"] == 36
    report = (out / "report.md").read_text()
    assert "LIVE-Challenge to AGIQA-3K" in report
    # All but the validation part trained, and that is no result.
    manifest = json.loads((out / "cells/full-model/round-0/checkpoint/manifest.json").read_text())
    assert manifest["data"] == {"LIVE-Challenge": {"train": 32, "validation": 4, "test": 0}}
    assert result["reports"]["LIVE-Challenge"]["part"] == "validation"
    assert "Result on LIVE-Challenge" not in report
    card = (out / "cells/full-model/round-0/checkpoint/README.md").read_text()
    assert "## Measured on the validation part" in card


def test_rivals_are_measured_on_the_same_images(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(data, pretrained, tmp_path, "clip-iqa-plus")
    rows = (data["LIVE-Challenge"] / "labels.csv").read_text().splitlines()[1:]
    names = [row.split(",")[:2] for row in rows]
    table = tmp_path / "oracle.csv"
    table.write_text("image,score\n" + "".join(f"{n.split('/')[-1]},{mos}\n" for n, mos in names))
    out = tmp_path / "out"
    invoked = run("rounds", recipe, out, "--rounds", "2", "--rival", str(table))
    assert invoked.exit_code == 0, invoked.output
    report = (out / "report.md").read_text()
    assert "1.000 ± 0.000 (1.000)" in report


def test_the_published_protocol_is_labelled_so(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    split = {"shares": {"train": 0.75, "test": 0.25}}
    recipe = recipe_file(data, pretrained, tmp_path, "mp-iqe", split=split)
    out = tmp_path / "out"
    invoked = run("rounds", recipe, out, "--rounds", "1", "--protocol", "paper")
    assert invoked.exit_code == 0, invoked.output
    assert "PUBLISHED PROTOCOL" in (out / "report.md").read_text()
    card = (out / "cells/full-model/round-0/checkpoint/README.md").read_text()
    assert "**Published protocol**" in card
    # What rebuilds the cell is a command that can be given.
    assert f"agiqa experiment rounds {recipe} --rounds 1" in card
    assert "--set protocol=paper" in card


@pytest.mark.parametrize(
    ("kind", "method", "message"),
    [
        ("ablation", "liqe", "no parts to leave out"),
        ("prompt-length", "liqe", "learns no prompts"),
        ("cross-dataset", "mp-iqe", "--test NAME=FOLDER"),
    ],
)
def test_what_a_method_can_not_be_asked_is_said(
    data: Data, pretrained: Path, tmp_path: Path, kind: str, method: str, message: str
) -> None:
    recipe = recipe_file(data, pretrained, tmp_path, method)
    invoked = run(kind, recipe, tmp_path / "out")
    assert invoked.exit_code == 1
    assert message in invoked.output


def test_a_share_of_the_data_keeps_the_test_part_of_the_whole(
    data: Data, pretrained: Path, tmp_path: Path
) -> None:
    """The backbone must not have seen the set: what it saw would all train."""
    name = METHODS["clip-iqa-plus"][0]
    other = with_backbone({"AGIQA-3K": data["AGIQA-3K"], name: data[name]}, tmp_path / "blind")
    described = other / "backbone" / "backbone.json"
    description = json.loads(described.read_text())
    description["provenance"]["trained_on"] = ["AGIQA-3K"]
    del description["provenance"]["seen"][name]
    described.write_text(json.dumps(description))
    recipe = recipe_file(data, other, tmp_path, "clip-iqa-plus")
    out = tmp_path / "out"
    shares = "split.shares={train: 0.75, test: 0.25}"
    invoked = run("data-efficiency", recipe, out, "--set", shares)
    assert invoked.exit_code == 0, invoked.output
    found = results(out)
    assert set(found) == {f"{n}-to-train-on/round-0" for n in ("20", "40", "60", "75")}
    tested = {
        tuple(sorted((out / "cells" / cell / f"predictions-{name}.csv").read_text().split("\n")[0]))
        for cell in found
    }
    assert len(tested) == 1
    images = {cell: result["reports"][name]["images"] for cell, result in found.items()}
    assert set(images.values()) == {9}
