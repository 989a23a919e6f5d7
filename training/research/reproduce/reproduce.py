"""Runs a table of a paper: checks first, then what is not finished, and the report."""

from collections.abc import Callable, Iterator
from pathlib import Path

from reporting.markdown import markdown_table
from training.engine.devices import processes
from training.reports.write import write
from training.research.experiments.run import run_grid
from training.research.reproduce.cost import Counter, Counts
from training.research.reproduce.document import reproduction_document, whole_tables
from training.research.reproduce.jobs import Reproduction, jobs_of
from training.research.reproduce.plan import plan
from training.research.reproduce.requirements import device_memory, ready
from training.research.rivals.rival import parse_rival


def planned(
    reproduction: Reproduction, tflops: float, counter: Counter | None = None
) -> Iterator[str]:
    """The lines of a table's plan.

    Raises:
        RecipeError: a setting that can't be applied.
    """
    return plan(reproduction, jobs_of(reproduction), counter or Counts(), tflops)


def reproduce(
    reproduction: Reproduction,
    command: str,
    show: Callable[[str], None] = print,
    counter: Counter | None = None,
    memory: Callable[[str], float] = device_memory,
) -> Path | None:
    """Runs what is not finished of a table; its report is written anew after each experiment, and
    at the end the whole table is shown.

    Args:
        reproduction: the table, folders and settings.
        command: as a reader would give it.
        show: takes the lines of the table.
        counter: what a recipe's step costs; None: it is counted.
        memory: bytes that a device has.

    Returns:
        The HTML report; None in all processes but the main one.

    Raises:
        TrainingError, ModelError: what stands in its way, before anything runs, or a run that
            fails.
    """
    jobs = jobs_of(reproduction)
    rivals = [parse_rival(text, jobs[0].base.device) for text in reproduction.rivals]
    prepared = ready(reproduction, jobs, counter or Counts(), memory)
    finished = []
    main = processes(jobs[0].base.device).is_main_process
    for each in prepared:
        results = run_grid(each.grid, each.job.request.tests, command, each.job.runner)
        finished.append((each, results))
        if main:
            document = reproduction_document(reproduction, finished, rivals, command)
            write(document, reproduction.folder)
    if not main:
        return None
    for table in whole_tables(reproduction, finished):
        show(f"{table.caption}\n\n{markdown_table(table)}\n")
    return reproduction.folder / "report.html"
