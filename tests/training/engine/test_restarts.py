"""Trainings past one process, as torchrun starts them: killed processes, and what each reads."""

import os
import shutil
import signal
import subprocess
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from tests.app.server import free_port
from tests.training.engine.processes import (
    AGIQA,
    TORCHRUN,
    TWO,
    finished,
    progress_of,
    started,
    wait_for,
    written,
)
from tests.training.runs import weights
from training.prepared_data import read_sets
from training.recipe import MethodRecipe, load_recipe
from training.splits.split import draw

pytestmark = pytest.mark.slow

# Else processes that are started again find the addresses of those before them (pytorch 135712).
AFRESH = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
EPOCHS = 8
SCHEDULE = {"epochs": EPOCHS, "batch": 4, "select": "best", "patience": 9}
Data = dict[str, Path]


def machine(port: int) -> list[str]:
    """torchrun as on each of two machines, with a process each."""
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}"]
    size = ["--nnodes", "2", "--nproc-per-node", "1", "--local-addr", "localhost"]
    return [*TORCHRUN, *size, *meeting, "--max-restarts", "3"]


def place(folder: Path, name: str) -> Path:
    """A folder in that one, with the backbone in it."""
    shutil.copytree(folder / "backbone", folder / name / "backbone")
    return folder / name


def worker(agents: list["subprocess.Popen[bytes]"], rank: int) -> int:
    """The process id of the rank: a child of one of torchrun's processes."""
    for agent in agents:
        for children in Path(f"/proc/{agent.pid}/task").glob("*/children"):
            for pid in map(int, children.read_text().split()):
                if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(
                    b"\0"
                ):
                    return pid
    raise AssertionError(f"no process has rank {rank}")


@pytest.fixture(scope="module")
def undisturbed(
    data: Data, pretrained: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, torch.Tensor]:
    """The weights of two processes that were left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(pretrained / "backbone", folder / "backbone")
    recipe = written(folder, data, "clip-agiqa", SCHEDULE)
    assert finished([*TWO, *AGIQA[1:], "train", recipe], folder / "log") == 0
    return weights(folder / "checkpoint")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("machines", "killed"), [(1, 1), (2, 0)])
def test_a_job_with_a_killed_process_ends_in_the_weights_of_an_undisturbed_one(
    data: Data, folder: Path, undisturbed: dict[str, torch.Tensor], machines: int, killed: int
) -> None:
    recipe = str(written(folder, data, "clip-agiqa", SCHEDULE))
    run = [*TWO, "--max-restarts", "3"] if machines == 1 else machine(free_port())
    command, log = [*run, *AGIQA[1:], "train", recipe], folder / "log"
    with ExitStack() as stack:
        agents = [stack.enter_context(started(command, log, **AFRESH)) for _ in range(machines)]
        wait_for(folder / "work", agents[0], 3)
        os.kill(worker(agents, killed), signal.SIGKILL)
        assert [agent.wait(200) for agent in agents] == [0] * machines, log.read_text()
    text = log.read_text()
    assert "exitcode: -9" in text
    # The last epoch before the kill comes twice if its state was not written yet; others once.
    assert [text.count(f"miniature {i}/{EPOCHS}:") for i in (1, EPOCHS)] == [1, 1]
    assert len(progress_of(folder / "work")) == EPOCHS
    found = weights(folder / "checkpoint")
    assert found.keys() == undisturbed.keys()
    for name, value in undisturbed.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-4, msg=name)


@pytest.mark.timeout(600)
def test_machines_that_share_no_folder_are_refused(data: Data, folder: Path) -> None:
    one, other = place(folder, "one"), place(folder, "other")
    recipes = [written(place, data, "clip-agiqa", {"epochs": 2}) for place in (one, other)]
    assert finished([*AGIQA, "train", recipes[0]], one / "log") == 0
    run = [*machine(free_port()), "--max-restarts", "0", *AGIQA[1:], "train"]
    with ExitStack() as stack:
        agents = [
            stack.enter_context(started([*run, recipe], recipe.parent / "log"))
            for recipe in recipes
        ]
        assert 0 not in [agent.wait(200) for agent in agents]
    for place_ in (one, other):
        log = (place_ / "log").read_text()
        assert "finished epochs in" in log, log
        assert "set work to a folder that all machines share" in log


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cached", [True, False], ids=["memory", "no memory"])
def test_each_process_reads_an_image_once_or_its_share_of_every_epoch(
    data: Data, folder: Path, cached: bool
) -> None:
    schedule = {"epochs": 3, "batch": 2, "degraded": 0}
    recipe = written(folder, data, "clip-agiqa", schedule, cache_gib=1.0 if cached else 0.0)
    loaded = load_recipe(str(recipe))
    assert isinstance(loaded, MethodRecipe)
    parts = draw(loaded.split, read_sets(loaded)["AGIQA-3K"])
    (folder / "reads").mkdir()
    command: list[str | Path] = [*TWO, "-m", "tests.training.engine.reads", "train", recipe]
    assert finished(command, folder / "log", READS=str(folder / "reads")) == 0
    passes = 1 + schedule["epochs"]  # the first once more: some weights begin by its images
    reads = [Counter((folder / "reads" / rank).read_text().split()) for rank in "01"]
    for sample in parts["train"]:
        times = [counted[sample.path.name] for counted in reads]
        assert times == [1, 1] if cached else sum(times) == passes, (sample.path.name, times)
    if not cached:
        learned = {sample.path.name for sample in parts["train"]}
        shares = [sum(n for name, n in counted.items() if name in learned) for counted in reads]
        assert shares == [passes * len(learned) / 2] * 2
