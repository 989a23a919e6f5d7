"""Training killed at random moments: it always resumes, and ends at the weights of a whole run."""

import contextlib
import json
import multiprocessing
import random
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from benchmarks.drills.frame import Drill, Report
from tests.training.runs import BACKBONE, METHOD, SCHEDULE, weights, write_data
from training.commands.train import train

_KILLS = 20
_KILLS_SHORT = 2
_EPOCHS = {**SCHEDULE, "epochs": 4}
_MOST_SECONDS = 120.0  # of one run
# A part of an undisturbed run's time: a run is killed several times before it ends.
_SOON = 0.4
_FORKS = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class _Runs:
    """A backbone and a method on it, in a folder."""

    folder: Path
    data: Mapping[str, Path]

    def recipes(self) -> list[Path]:
        """Written as YAML, in the order in which they are trained."""
        stages = [{**stage, "schedule": {**stage["schedule"], **_EPOCHS}} for stage in _stages()]
        backbone = {**BACKBONE, "stages": stages, "data": self.data, **self._places("backbone")}
        one = {"AGIQA-3K": self.data["AGIQA-3K"]}
        method = {**METHOD, "schedule": _EPOCHS, "data": one, **self._places("checkpoint")}
        method["backbone"] = self.folder / "backbone"
        return [self._written("backbone", backbone), self._written("method", method)]

    def _places(self, out: str) -> dict[str, Path]:
        return {"out": self.folder / out, "work": self.folder / f"work-{out}"}

    def _written(self, name: str, recipe: Mapping[str, Any]) -> Path:
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(json.loads(json.dumps(recipe, default=str))))
        return path


def _stages() -> list[dict[str, Any]]:
    return list(BACKBONE["stages"])


def run(report: Report) -> None:
    _FORKS.set_forkserver_preload(["benchmarks.drills.trusted.training"])
    data = write_data(report.folder / "data")
    whole = _Runs(report.folder / "whole", data)
    seconds = [_undisturbed(recipe) for recipe in whole.recipes()]
    expected = _trained(whole)
    kills, rounds, differ, failed = 0, 0, 0, 0
    chance = random.Random(0)
    wanted = _KILLS_SHORT if report.short else _KILLS
    while kills < wanted:
        runs = _Runs(report.folder / "killed", data)
        for recipe, most in zip(runs.recipes(), seconds, strict=True):
            delays = [chance.uniform(0, _SOON * most) for _ in range(min(5, wanted - kills))]
            killed, ended_well = _killed(recipe, delays)
            kills += killed
            failed += not ended_well
        rounds += 1
        differ += not _equal(expected, _trained(runs))
        shutil.rmtree(runs.folder)
    report.check("a killed run always resumes", f"{kills} kills, {failed} failed", not failed)
    figure = f"{differ} of {rounds} runs of both differ"
    report.check("it ends at the weights of an undisturbed run", figure, not differ)


def _undisturbed(recipe: Path) -> float:
    start = time.monotonic()
    process = _started(recipe)
    process.join(_MOST_SECONDS)
    if process.exitcode != 0:
        process.kill()
        raise RuntimeError(f"{recipe.name} does not train: {_log(recipe).read_text()[-2000:]}")
    return time.monotonic() - start


def _killed(recipe: Path, delays: list[float]) -> tuple[int, bool]:
    """Kills after each delay and starts again; at last lets it end. How many kills hit, and whether
    it ended well.
    """
    hit = 0
    for delay in delays:
        process = _started(recipe)
        process.join(delay)
        hit += process.exitcode is None
        if process.exitcode is not None and process.exitcode != 0:
            print(_log(recipe).read_text()[-2000:])
            return hit, False
        process.kill()
        process.join()
    process = _started(recipe)
    process.join(_MOST_SECONDS)
    if process.exitcode != 0:
        process.kill()
        print(_log(recipe).read_text()[-2000:])
    return hit, process.exitcode == 0


def _started(recipe: Path) -> BaseProcess:
    """``agiqa train`` in a process that has done its imports: kills hit the work, not them."""
    process = _FORKS.Process(target=_train, args=(recipe,), daemon=True)
    process.start()
    return process


def _train(recipe: Path) -> None:
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore that outlives whoever is killed
    with (
        _log(recipe).open("a") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        train.main([str(recipe), "--no-report"], "agiqa train")


def _log(recipe: Path) -> Path:
    return recipe.with_suffix(".log")


def _trained(runs: _Runs) -> dict[str, torch.Tensor]:
    return weights(runs.folder / "backbone") | weights(runs.folder / "checkpoint")


def _equal(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


DRILL = Drill("training", run, seconds=240, short_seconds=90)
