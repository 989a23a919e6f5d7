"""Real processes, by the command line: killed and started again, and two that share the work."""

import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.engine.processes import (
    AGIQA,
    TWO,
    finished,
    is_gone,
    progress_of,
    started,
    wait_for,
    written,
)
from tests.training.runs import weights
from training.recipe import MethodRecipe, load_recipe
from training.run import train

pytestmark = pytest.mark.slow

Data = dict[str, Path]


def here(recipe: Path) -> None:
    """Runs a recipe in this process."""
    torch.set_num_threads(1)
    loaded = load_recipe(str(recipe))
    assert isinstance(loaded, MethodRecipe)
    assert train(loaded, "agiqa train recipe.yaml") is not None


def test_a_run_that_is_killed_twice_ends_in_the_same_weights(data: Data, folder: Path) -> None:
    schedule = {"epochs": 10, "batch": 2, "select": "best", "patience": 9}
    whole, stopped = folder / "whole", folder / "stopped"
    for place in (whole, stopped):
        shutil.copytree(folder / "backbone", place / "backbone")
    here(written(whole, data, "clip-agiqa", schedule))
    command: list[str | Path] = [*AGIQA, "train", written(stopped, data, "clip-agiqa", schedule)]
    for epochs in (2, 6):
        with started(command, stopped / "log") as process:
            wait_for(stopped / "work", process, epochs)
            time.sleep(random.uniform(0, 0.3))
            process.kill()
            assert process.wait() == -signal.SIGKILL
        assert is_gone(process.pid)
        assert epochs - 1 <= len(progress_of(stopped / "work")) < 10
        assert not (stopped / "checkpoint" / "config.json").exists()
    assert finished(command, stopped / "log") == 0
    first, second = (weights(place / "checkpoint") for place in (whole, stopped))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    one, other = (place / "work" / "miniature.metrics.csv" for place in (whole, stopped))
    assert one.read_bytes() == other.read_bytes()
    assert progress_of(whole / "work") == progress_of(stopped / "work")


@pytest.mark.parametrize(
    ("method", "schedule"),
    # Adam divides gradients by their size; MP-IQE has some that are next to nothing, and rounding
    # alone decides what they become.
    [("clip-agiqa", {}), ("mp-iqe", {"optimiser": "sgd", "lr": 0.1})],
    ids=["clip-agiqa", "mp-iqe"],
)
def test_two_processes_learn_what_one_learns(
    data: Data, folder: Path, method: str, schedule: dict[str, Any]
) -> None:
    alone, shared = folder / "alone", folder / "shared"
    for place in (alone, shared):
        shutil.copytree(folder / "backbone", place / "backbone")
    here(written(alone, data, method, schedule))
    command: list[str | Path] = [*TWO, *AGIQA[1:], "train", written(shared, data, method, schedule)]
    assert finished(command, shared / "log") == 0, (shared / "log").read_text()
    one, other = (torch.load(p / "work" / "miniature.state.pt") for p in (alone, shared))
    for kind in ("parameters", "average"):
        assert one[kind].keys() == other[kind].keys()
        for name, value in one[kind].items():
            torch.testing.assert_close(other[kind][name], value, rtol=1e-4, atol=1e-6, msg=name)
    for a, b in zip(progress_of(alone / "work"), progress_of(shared / "work"), strict=True):
        assert b == {key: pytest.approx(value, rel=1e-4) for key, value in a.items()}
    log = (shared / "log").read_text()
    assert log.count("wrote ") == log.count("miniature 2/2") == 1
    assert "FutureWarning" not in log
    assert (shared / "checkpoint" / "config.json").is_file()


def test_processes_that_do_not_share_a_batch_evenly_say_so_and_end(
    data: Data, folder: Path
) -> None:
    recipe = written(folder, data, "clip-agiqa", {"batch": 3})
    assert finished([*TWO, *AGIQA[1:], "train", recipe], folder / "log") == 1
    log = (folder / "log").read_text()
    assert "Error: a batch of 3 can't be shared evenly by 2: set schedule.batch" in log
    assert not (folder / "work" / "miniature.state.pt").exists()
