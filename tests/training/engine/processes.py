"""Trainings as processes of their own, by the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.training.runs import METHODS, SCHEDULE, method_recipe

AGIQA = [sys.executable, "-m", "app.cli.main"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
TWO = [*TORCHRUN, "--standalone", "--nproc-per-node", "2"]


def written(
    folder: Path,
    data: Mapping[str, Path],
    method: str,
    schedule: Mapping[str, Any],
    **changes: Any,
) -> Path:
    """A recipe file whose run writes ``checkpoint`` and ``work`` in ``folder``."""
    _, own = METHODS[method]
    schedule = {**SCHEDULE, **own.get("schedule", {}), **schedule}
    recipe = method_recipe(
        data, folder, method, work=folder / "work", device="cpu", schedule=schedule, **changes
    )
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(json.loads(recipe.model_dump_json()), sort_keys=False))
    return path


@contextmanager
def started(
    command: Sequence[str | Path], log: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process group of its own, on one thread, whose output goes to a file."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1"} | environment,
            start_new_session=True,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()  # torchrun's processes are in groups of their own: it ends them
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def finished(command: Sequence[str | Path], log: Path, **environment: str) -> int:
    """The exit status; nothing of the process is left."""
    with started(command, log, **environment) as process:
        status = process.wait(200)
    assert is_gone(process.pid)
    return status


def is_gone(group: int) -> bool:
    """Whether no process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(what: Path, process: subprocess.Popen[bytes], epochs: int) -> None:
    """Until the table of a run holds so many epochs, and its state at least all but the last."""
    deadline = time.monotonic() + 100
    table = what / "miniature.metrics.csv"
    while not table.is_file() or len(table.read_text().splitlines()) <= epochs:
        assert process.poll() is None, "the run ended"
        assert time.monotonic() < deadline, "the run is too slow"
        time.sleep(0.005)


def progress_of(work: Path) -> list[dict[str, float]]:
    state = torch.load(work / "miniature.state.pt", weights_only=True)
    history: list[dict[str, float]] = state["progress"]["history"]
    return history
