"""What stands in a table's way is one sentence, before anything is written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.research.reproduce.miniatures import SETTINGS, reproduce
from training.errors import TrainingError
from training.research.reproduce import reproduce as module
from training.research.reproduce.catalogue import TABLES
from training.research.reproduce.cost import Cost
from training.research.reproduce.jobs import Reproduction

CHEAP = Cost(step=1e9, validation=1e9, memory=2**21, learned=100)


def sentence(output: str) -> str:
    (line,) = [line for line in output.splitlines() if line.startswith("Error: ")]
    return line


def request(data: Path, backbone: Path, out: Path, table: str = "mp-iqe-3") -> Reproduction:
    settings = tuple(f"{key}={value}" for key, value in SETTINGS.items())
    return Reproduction(
        TABLES[table],
        data,
        out,
        (f"backbone={backbone}", *settings),
        rounds=1,
        partial=True,
    )


def test_all_that_is_missing_is_named_at_once(backbone: Path, tmp_path: Path) -> None:
    done = reproduce("mp-iqe-3", tmp_path / "data", backbone, tmp_path / "out", "--partial")
    assert done.exit_code == 1
    error = sentence(done.output)
    for name in ("LIVE, 779 images", "CSIQ, 866", "KonIQ-10k, 10,073", "LIVE-Challenge, 1,162"):
        assert f"{name}" in error
    assert f"label files in {tmp_path / 'data' / 'IQA_Database'}" in error
    assert not (tmp_path / "out").exists()


def test_a_set_with_images_missing_is_no_table_of_the_paper(
    sets: Path, backbone: Path, tmp_path: Path
) -> None:
    done = reproduce("mp-iqe-5", sets, backbone, tmp_path / "out", "--rounds", 1)
    assert done.exit_code == 1
    assert "48 of the 779 images of LIVE" in sentence(done.output)
    assert "--partial" in done.output
    assert not (tmp_path / "out").exists()


def test_a_set_that_is_not_as_distributed_is_refused_before_the_first_run(
    sets: Path, backbone: Path, tmp_path: Path
) -> None:
    """The broken one is the last that the table comes to."""
    shutil.copytree(sets / "LIVE", tmp_path / "LIVE")
    (tmp_path / "LIVE" / "refnames_all.mat").unlink()
    options = ("--partial", "--set", f"data.LIVE={tmp_path / 'LIVE'}")
    done = reproduce("mp-iqe-3", sets, backbone, tmp_path / "out", *options)
    assert done.exit_code == 1
    assert "refnames_all.mat" in sentence(done.output)
    assert not (tmp_path / "out").exists()


def test_a_set_that_no_recipe_of_the_table_reads_is_refused(
    sets: Path, backbone: Path, tmp_path: Path
) -> None:
    options = ("--set", f"data.BID={sets / 'BID'}")
    done = reproduce("mp-iqe-3", sets, backbone, tmp_path / "out", *options)
    assert "mp-iqe-3 needs no BID" in sentence(done.output)


@pytest.mark.parametrize(
    ("memory", "cost", "message"),
    [
        (2**20, CHEAP, r"a training step of mp-iqe-live-challenge takes about .*accumulate"),
        (2**40, replace(CHEAP, learned=2**50), "GiB in"),
    ],
    ids=["memory", "disk"],
)
def test_too_little_memory_or_disk_is_found_before_anything_runs(
    memory: int, cost: Cost, message: str, sets: Path, backbone: Path, tmp_path: Path
) -> None:
    reproduction = request(sets, backbone, tmp_path / "out")
    roomy = memory if cost is CHEAP else 2**60
    with pytest.raises(TrainingError, match=message):
        module.reproduce(reproduction, "", counter=lambda _: cost, memory=lambda _: roomy)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_is_no_backbone(sets: Path, tmp_path: Path) -> None:
    done = reproduce(
        *("mp-iqe-3", sets, Path("tiny-mpiqe"), tmp_path / "out", "--partial", "--rounds", 1)
    )
    assert done.exit_code == 1
    assert "is a checkpoint of mp-iqe, no backbone" in sentence(done.output)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_method_in_a_cell_s_place_is_left_alone(
    sets: Path, backbone: Path, tmp_path: Path
) -> None:
    place = tmp_path / "out/cross-dataset-mp-iqe-csiq/cells/full-model/round-0/checkpoint"
    place.mkdir(parents=True)
    bundled = Path("model/checkpoints/tiny-clip-agiqa/config.json")
    shutil.copyfile(bundled, place / "config.json")
    before = sorted(tmp_path.rglob("*"))
    done = reproduce("mp-iqe-3", sets, backbone, tmp_path / "out", "--partial", "--rounds", 1)
    assert done.exit_code == 1
    assert "holds a checkpoint of clip-agiqa" in sentence(done.output)
    assert sorted(tmp_path.rglob("*")) == before


def test_results_of_other_settings_stop_a_table_before_its_first_run(
    sets: Path, backbone: Path, tmp_path: Path
) -> None:
    place = tmp_path / "out/cross-dataset-mp-iqe-csiq/cells/full-model/round-0"
    place.mkdir(parents=True)
    (place / "result.json").write_text(json.dumps({"recipe": {}}))
    done = reproduce("mp-iqe-3", sets, backbone, tmp_path / "out", "--partial", "--rounds", 1)
    assert done.exit_code == 1
    assert "measured with other settings" in sentence(done.output)
    assert len(list((tmp_path / "out").iterdir())) == 1
