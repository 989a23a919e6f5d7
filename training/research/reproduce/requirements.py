"""What a table needs of this machine, refused in one sentence before anything is written: data sets
as distributed, backbones that load, results of the same settings, memory and disk.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.store.checkpoint import CONFIG, read_config
from training.data.datasets import DATA_SETS
from training.data.samples import Sample
from training.engine.devices import processes
from training.engine.memory import free_memory
from training.errors import DataError, TrainingError
from training.prepared_data import read_sets
from training.recipe import MethodRecipe
from training.research.experiments.grid import Cell, Grid
from training.research.experiments.run import RESULT, read_result
from training.research.reproduce.backbones import loaded_backbone
from training.research.reproduce.cost import Counter
from training.research.reproduce.jobs import Job, Reproduction
from training.splits.split import draw

_GIB = 2**30


@dataclass(frozen=True)
class Needed:
    """A folder or file that must be there: what it is, and how it is known."""

    what: str
    path: Path
    known_by: str

    @property
    def is_there(self) -> bool:
        """Whether there is anything at the path."""
        return self.path.exists()


def needed(reproduction: Reproduction, jobs: Sequence[Job]) -> list[Needed]:
    """All data sets, label files and weights that a table needs, each once."""
    found: dict[tuple[str, Path], Needed] = {}
    for job in jobs:
        for name, folder in (job.base.data | dict(job.request.tests)).items():
            data = DATA_SETS[name]
            what = f"{name}, {data.images:,} images"
            found.setdefault((name, folder), Needed(what, folder, " and ".join(data.marks)))
        for folder in job.base.labels.values():
            what = "LIQE's label files"
            need = Needed(what, folder, "IQA_Database of zwx8981/LIQE on GitHub")
            found.setdefault((what, folder), need)
    for name, file in (reproduction.weights or {}).items():
        found[name, file] = Needed(f"weights of {name}", file, "a file of CLIP's weights")
    return list(found.values())


@dataclass(frozen=True)
class Ready:
    """A job whose data are read: its grid, and the samples of its own sets."""

    job: Job
    grid: Grid
    samples: Mapping[str, Sequence[Sample]]
    cells: Sequence[Cell]

    @property
    def left(self) -> list[Cell]:
        """What is not finished."""
        return [cell for cell in self.cells if not is_finished(cell)]


def ready(
    reproduction: Reproduction,
    jobs: Sequence[Job],
    counter: Counter,
    memory: Callable[[str], float],
) -> list[Ready]:
    """The jobs, as soon as nothing stands in their way; nothing is written.

    Args:
        reproduction: the table, folders and settings.
        jobs: its experiments.
        counter: what a recipe's step costs.
        memory: bytes that a device has.

    Raises:
        TrainingError, ModelError: the first thing that does, in one sentence.
    """
    if missing := [need for need in needed(reproduction, jobs) if not need.is_there]:
        listed = "; ".join(f"{need.what} in {need.path}" for need in missing)
        raise DataError(
            f"{reproduction.table.name} needs what is not there: {listed}. "
            f"agiqa reproduce {reproduction.table.name} --plan says what each must hold"
        )
    sets = _Sets(partial=reproduction.partial)
    done = []
    for job in jobs:
        samples = sets.of(job)
        grid = job.grid(samples)
        done.append(Ready(job, grid, samples, grid.cells()))
    for each in done:
        _refuse_other_results(each.cells)
        for cell in each.cells:
            for several in each.samples.values():
                draw(cell.recipe.split, several)
    if left := [each for each in done if each.left]:
        _refuse_backbones([cell for each in left for cell in each.left])
        _refuse_little_memory([each.grid.base for each in left], counter, memory)
        _refuse_little_disk(reproduction.out, disk_of(left, counter))
    return done


def is_finished(cell: Cell) -> bool:
    """Whether the cell has a result."""
    return (cell.folder / RESULT).is_file()


def disk_of(left: Sequence[Ready], counter: Counter) -> int:
    """Bytes that what is not finished will take: its checkpoints, features of whole images, and
    the state of one run.
    """
    costs = [(counter(each.grid.base), each) for each in left]
    kept = sum(cost.kept(each.grid.base, len(each.left)) for cost, each in costs)
    return kept + max(cost.state for cost, _ in costs)


def device_memory(device: str) -> float:
    """Bytes that a run may use on ``device``."""
    return free_memory(processes(device).device)


class _Sets:
    """Data sets, each read once however many jobs share it."""

    def __init__(self, *, partial: bool) -> None:
        self._partial = partial
        self._known: dict[tuple[str, ...], dict[str, list[Sample]]] = {}

    def of(self, job: Job) -> dict[str, list[Sample]]:
        """A job's own sets, with their labels; its foreign ones are looked at too."""
        for name, folder in job.request.tests.items():
            if (name, str(folder)) not in self._known:
                samples = DATA_SETS[name].read(folder)
                self._known[name, str(folder)] = {name: samples}
                self._refuse_partial(name, folder, samples)
        folders = (*job.base.data.values(), *job.base.labels.values())
        key = (*map(str, folders), job.base.split.kind)
        if key not in self._known:
            self._known[key] = read_sets(job.base)
            for name, samples in self._known[key].items():
                self._refuse_partial(name, job.base.data[name], samples)
        return self._known[key]

    def _refuse_partial(self, name: str, folder: Path, samples: Sequence[Sample]) -> None:
        images = DATA_SETS[name].images
        if len(samples) != images and not self._partial:
            raise DataError(
                f"{folder} holds {len(samples):,} of the {images:,} images of {name}: complete it "
                "(agiqa data check lists what is missing), or give --partial for a table of what "
                "is there"
            )


def _refuse_other_results(cells: Sequence[Cell]) -> None:
    for cell in cells:
        if (cell.recipe.out / CONFIG).is_file():
            method = read_config(cell.recipe.out).method
            if method != cell.recipe.method:
                raise TrainingError(
                    f"{cell.recipe.out} holds a checkpoint of {method}, and {cell.recipe.method} "
                    "would be trained there: give another --out"
                )
        read_result(cell)


def _refuse_backbones(cells: Sequence[Cell]) -> None:
    """Loads each backbone once."""
    known = set()
    for cell in cells:
        named = str(cell.recipe.backbone)
        if named not in known:
            known.add(named)
            loaded_backbone(cell.recipe)


def _refuse_little_memory(
    recipes: Sequence[MethodRecipe], counter: Counter, memory: Callable[[str], float]
) -> None:
    for recipe in recipes:
        wanted, there = counter(recipe).memory, memory(recipe.device)
        if wanted > there:
            raise TrainingError(
                f"a training step of {recipe.name} takes about {wanted / _GIB:.3g} GiB of memory, "
                f"and the device has {there / _GIB:.3g} GiB for it: set schedule.accumulate=2 or "
                "more, schedule.checkpoint_activations=true, or schedule.batch lower"
            )


def _refuse_little_disk(out: Path, wanted: int) -> None:
    free = shutil.disk_usage(next(_existing(out))).free
    if wanted > free:
        raise TrainingError(
            f"the cells that are left take about {wanted / _GIB:.1f} GiB in {out}, where "
            f"{free / _GIB:.1f} are free: give --out on another disk, or fewer --rounds"
        )


def _existing(path: Path) -> Iterator[Path]:
    return (folder for folder in (path, *path.resolve().parents) if folder.is_dir())
