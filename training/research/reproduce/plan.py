"""What a table will take, before it is begun: data, cells, steps, hours, memory and disk."""

from collections.abc import Iterator, Sequence

from model.config import BackboneConfig
from training.data.datasets import DATA_SETS
from training.research.reproduce.cost import Counter, Size
from training.research.reproduce.jobs import Job, Reproduction
from training.research.reproduce.requirements import is_finished, needed

_GIB = 2**30


def plan(
    reproduction: Reproduction, jobs: Sequence[Job], counter: Counter, tflops: float
) -> Iterator[str]:
    """The lines of the plan; no data need be there.

    Args:
        reproduction: the table, folders and settings.
        jobs: its experiments.
        counter: what a recipe's step costs.
        tflops: 10^12 operations a second that the machine sustains.
    """
    yield f"{reproduction.table.name}: {reproduction.table.title}"
    yield ""
    yield "needs:"
    for need in needed(reproduction, jobs):
        mark = "there  " if need.is_there else "MISSING"
        yield f"  {mark}  {need.what}: {need.path} ({need.known_by})"
    for named in dict.fromkeys(_backbone(job) for job in jobs):
        yield f"           backbone {named}"
    yield ""
    header = ("experiment", "cells", "finished", "steps", "hours", "GiB memory", "GiB disk")
    yield _aligned(header)
    total = _Total()
    for job in jobs:
        row = _Row(job, counter, tflops)
        total.add(row)
        yield _aligned(row.shown())
    yield _aligned(total.shown())
    yield ""
    yield (
        f"Hours are the counted operations of what is not finished at {tflops:g} TFLOP/s "
        "sustained (--tflops); decoding, loading and the bootstrap of the evaluation come on top. "
        "Memory is of one training step. On disk, checkpoints and one run's state are kept; "
        "states of finished cells are dropped."
    )


class _Row:
    """A job in figures, of what is not finished."""

    def __init__(self, job: Job, counter: Counter, tflops: float) -> None:
        trains = job.part.kind != "without-training"
        cells = job.grid({}).cells()
        left = [cell for cell in cells if not is_finished(cell)]
        cost = counter(job.base)
        foreign = sum(DATA_SETS[name].images for name in job.part.tests)
        sizes = [Size.of(cell.recipe, trained=trains, foreign=foreign) for cell in left]
        self.name = f"{job.part.kind} {job.part.recipe}"
        self.cells = len(cells)
        self.finished = len(cells) - len(left)
        self.steps = sum(size.steps for size in sizes)
        self.hours = sum(size.flops(cost) for size in sizes) / (tflops * 1e12) / 3600
        self.memory = cost.memory
        self.disk = cost.kept(job.base, len(left)) if left and trains else 0
        self.state = cost.state if left and trains else 0

    def shown(self) -> tuple[str, ...]:
        """Its cells."""
        figures = f"{self.hours:.2f}", f"{self.memory / _GIB:.1f}", f"{self.disk / _GIB:.2f}"
        return self.name, str(self.cells), str(self.finished), f"{self.steps:,}", *figures


class _Total:
    def __init__(self) -> None:
        self._rows: list[_Row] = []

    def add(self, row: _Row) -> None:
        self._rows.append(row)

    def shown(self) -> tuple[str, ...]:
        rows = self._rows
        disk = sum(row.disk for row in rows) + max(row.state for row in rows)
        return (
            "all",
            str(sum(row.cells for row in rows)),
            str(sum(row.finished for row in rows)),
            f"{sum(row.steps for row in rows):,}",
            f"{sum(row.hours for row in rows):.2f}",
            f"{max(row.memory for row in rows) / _GIB:.1f}",
            f"{disk / _GIB:.2f}",
        )


def _aligned(cells: Sequence[str]) -> str:
    name, *figures = cells
    return f"  {name:44}" + "".join(f"{figure:>12}" for figure in figures)


def _backbone(job: Job) -> str:
    named = job.base.backbone
    if isinstance(named, BackboneConfig):
        place = named.path or f"open_clip's {named.pretrained}"
        return f"{named.name}: {place}"
    return str(named)
