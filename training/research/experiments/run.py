"""Runs an experiment's cells one after another; what is finished is not run again."""

import csv
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import PartialState
from tqdm import tqdm

import model
from model.store.files import write_atomically
from training.data.datasets import DATA_SETS
from training.engine.devices import processes
from training.errors import TrainingError
from training.evaluation.evaluate import evaluate
from training.evaluation.results import Report
from training.manifest import git_revision
from training.prepared_data import settings_json
from training.recipe import MethodRecipe
from training.research.experiments.grid import Cell, Grid
from training.run import Trained, train
from training.sampling.pictures import Shelf

RESULT = "result.json"
# States of stopped runs, as training.engine.loop names them.
_STATES = "*.state.pt"


@dataclass(frozen=True)
class Result:
    """What a cell measured: a report per data set, and per foreign one (``also``); the figures of
    every epoch; the recipe that it ran, as a digest of it tells.
    """

    variant: str
    round: int
    recipe: Mapping[str, Any]
    reports: dict[str, Report]
    also: dict[str, Report]
    history: list[dict[str, float]]
    best_epoch: int
    seconds: float
    git_revision: str
    checkpoint: str

    @property
    def report(self) -> Report:
        """That of the first data set."""
        return next(iter(self.reports.values()))


# Trains a cell, or measures what needs no training; None in all processes but the main one.
Runner = Callable[[MethodRecipe, str, Shelf], Trained | None]


def run_grid(
    grid: Grid, also: Mapping[str, Path], command: str, runner: Runner = train
) -> list[Result]:
    """Every cell's result, in the order of the cells; ``also`` are data sets that every trained
    model is measured on as a whole. The state by which a stopped run goes on is dropped when its
    cell is finished: those of many cells would fill a disk.

    Raises:
        TrainingError: a cell that can't be trained, or a folder that holds other settings' results.
    """
    cells = grid.cells()
    foreign = {name: DATA_SETS[name].read(folder) for name, folder in also.items()}
    grid.folder.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    here, shelf = processes(grid.base.device), Shelf()
    bar = tqdm(cells, desc=grid.kind, unit="run", disable=not here.is_main_process)
    for cell in bar:
        bar.set_postfix_str(f"{cell.variant.name}, round {cell.round}")
        if (found := read_result(cell)) is not None:
            results.append(found)
            _drop_states(cell, here)
            continue
        started = time.monotonic()
        trained = runner(cell.recipe, command, shelf)
        if trained is not None:
            measured = {n: _whole(cell, samples) for n, samples in foreign.items()}
            seconds = time.monotonic() - started
            results.append(_written(cell, trained, measured, seconds))
            _drop_states(cell, here)
        here.wait_for_everyone()
    return results


def read_result(cell: Cell) -> Result | None:
    """What the cell measured in an earlier run; None: it was not finished.

    Raises:
        TrainingError: it was of another recipe.
    """
    path = cell.folder / RESULT
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    if content["recipe"] != _settings(cell):
        raise TrainingError(
            f"{path} was measured with other settings: remove {cell.folder}, or give another --out"
        )
    for key in ("reports", "also"):
        content[key] = {
            name: Report.from_dict(report, _read_predictions(_predictions_file(cell, name)))
            for name, report in content[key].items()
        }
    return Result(**content)


def _written(cell: Cell, trained: Trained, also: dict[str, Report], seconds: float) -> Result:
    result = Result(
        variant=cell.variant.name,
        round=cell.round,
        recipe=_settings(cell),
        reports=dict(trained.reports),
        also=also,
        history=trained.progress.history,
        best_epoch=trained.progress.best_epoch,
        seconds=round(seconds, 1),
        git_revision=git_revision(),
        checkpoint=str(cell.recipe.out),
    )
    cell.folder.mkdir(parents=True, exist_ok=True)
    for name, report in (result.reports | also).items():
        text = pd.DataFrame(report.predictions).to_csv(index=False, lineterminator="\n")
        write_atomically(_predictions_file(cell, name), text.encode())
    content = asdict(result) | {
        "reports": {name: report.as_dict() for name, report in result.reports.items()},
        "also": {name: report.as_dict() for name, report in also.items()},
    }
    write_atomically(cell.folder / RESULT, (json.dumps(content, indent=2) + "\n").encode())
    return result


def _drop_states(cell: Cell, here: PartialState) -> None:
    """Of a finished cell: also what one left that was killed between its result and this."""
    if here.is_main_process:
        for state in cell.recipe.work.glob(_STATES):
            state.unlink()


def _whole(cell: Cell, samples: Sequence[Any]) -> Report:
    """The cell's checkpoint on all images of a set that it has not seen."""
    recipe = cell.recipe
    scorer = model.load(str(recipe.out), recipe.device, "float32", recipe.crop_policy)
    return evaluate(scorer, {"all": list(samples)}, "all")


def _settings(cell: Cell) -> dict[str, Any]:
    """What a result hangs on."""
    settings: dict[str, Any] = json.loads(settings_json(cell.recipe))
    if not isinstance(cell.recipe.backbone, Path):
        return settings
    return settings | {"backbone": cell.recipe.backbone.name}


def _predictions_file(cell: Cell, data_set: str) -> Path:
    return cell.folder / f"predictions-{data_set}.csv"


_NUMBERS = {"mos", "mos_align", "quality", "alignment", "consistency"}


def _read_predictions(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {k: (float(v) if v else None) if k in _NUMBERS else v for k, v in row.items()}
        for row in rows
    ]
