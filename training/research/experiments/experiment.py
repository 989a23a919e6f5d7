"""One experiment from its request to its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.datasets import DATA_SETS
from training.data.samples import Sample
from training.engine.devices import processes
from training.errors import DataError, RecipeError
from training.methods.base import objective_type
from training.prepared_data import read_sets, require_folders
from training.recipe import MethodRecipe, read_content, shown_settings, validated
from training.reports.write import write
from training.research.experiments.definitions import variants_of
from training.research.experiments.document import experiment_document
from training.research.experiments.grid import Content, Grid
from training.research.experiments.run import run_grid
from training.research.rivals.rival import parse_rival
from training.run import find_backbone
from training.settings import merged
from training.splits.groups import paper_rounds
from training.splits.split import Split, seen_groups

_FOLDER = Path("runs/experiments")
# Experiments of which every cell may train on a published round: others divide the data their way.
_ON_PUBLISHED_ROUNDS = frozenset({"rounds", "ablation", "prompt-length"})


@dataclass(frozen=True)
class Request:
    """What the command line asks for; ``tests``: folders of foreign data sets by name."""

    kind: str
    recipe: str
    settings: tuple[str, ...]
    rounds: int
    tests: Mapping[str, Path]
    rivals: tuple[str, ...]
    leave_one_out: bool
    out: Path | None


def run_experiment(request: Request) -> Path | None:
    """Runs what is not finished and writes the report.

    Returns:
        The HTML report; None in all processes but the main one.

    Raises:
        TrainingError: a recipe, data set or rival that can't be used, or a run that fails.
    """
    base, content = recipe_of(request)
    rivals = [parse_rival(text, base.device) for text in request.rivals]
    if request.kind == "cross-dataset" and not request.tests:
        raise RecipeError("cross-dataset needs other data sets: --test NAME=FOLDER")
    if unknown := set(request.tests) - set(DATA_SETS):
        raise RecipeError(
            f"--test {', '.join(unknown)}: unknown data set; known: {', '.join(DATA_SETS)}"
        )
    require_folders(base)
    samples = read_sets(base)
    grid = grid_of(request, base, content, samples)
    command = _command(request, base)
    results = run_grid(grid, request.tests, command)
    if not processes(base.device).is_main_process:
        return None
    document = experiment_document(grid, results, samples, rivals, command)
    write(document, grid.folder)
    return grid.folder / "report.html"


def recipe_of(request: Request) -> tuple[MethodRecipe, Content]:
    """The recipe with the request's settings, and what it states before it is validated.

    Raises:
        RecipeError: it can't be run, or trains no method.
    """
    content, called = read_content(request.recipe, request.settings)
    base = validated(content, called)
    if not isinstance(base, MethodRecipe):
        raise RecipeError(f"{called} is no recipe of a method; experiments train methods")
    return base, content


def grid_of(
    request: Request,
    base: MethodRecipe,
    content: Content,
    samples: Mapping[str, Sequence[Sample]],
) -> Grid:
    """What the request runs. Without ``samples`` it has as many cells, but neither the published
    rounds nor the rows of the single generators: enough to plan by.
    """
    folder = request.out or _FOLDER / f"{request.kind}-{base.name}"
    variants = variants_of(request.kind, base, samples)
    if not request.leave_one_out:
        variants = [variant for variant in variants if variant.group != "left out"]
    content, remarks = _with_rounds(request, base, content, samples)
    remarks = [*remarks, *_of_the_backbone(base, samples)]
    return Grid(request.kind, base, variants, request.rounds, folder.resolve(), content, remarks)


def _with_rounds(
    request: Request,
    base: MethodRecipe,
    content: Content,
    samples: Mapping[str, Sequence[Sample]],
) -> tuple[Content, list[str]]:
    """The paper's own rounds where they can be drawn again, else rounds of one's own."""
    named = objective_type(base.method).paper_rounds
    paper = next((several for name, several in samples.items() if name in named), None)
    if request.kind not in _ON_PUBLISHED_ROUNDS or paper is None or base.split.kind != "content":
        return content, []
    try:
        paper_rounds(paper, 0)
    except DataError as error:
        reason, _, _ = str(error).partition(":")
        return content, [f"These are rounds of our own: {reason}."]
    return merged(content, {"split": {"kind": "paper"}}), ["The rounds are the paper's own."]


def _of_the_backbone(base: MethodRecipe, samples: Mapping[str, Sequence[Sample]]) -> list[str]:
    """What a backbone that has seen some of the data means for the rounds."""
    _, before = find_backbone(base)
    own = Split.of_provenance(before.split)
    remarks = []
    for name, several in samples.items():
        if own is not None and name in before.trained_on:
            groups, seen = len({s.group for s in several}), len(seen_groups(own, several))
            remarks.append(
                f"The backbone was pre-trained on {seen} of the {groups} prompts or images of "
                f"{name}. They train in every round; validation and test parts are drawn from the "
                f"other {groups - seen}: rounds overlap, and their deviation is too small."
            )
    return remarks


def _command(request: Request, base: MethodRecipe) -> str:
    """The command as a reader would give it."""
    shown = [f"--set {setting}" for setting in shown_settings(request.settings, base)]
    tests = [f"--test {name}={name}" for name in request.tests]
    rivals = [f"--rival {rival}" for rival in request.rivals]
    rest = [] if request.leave_one_out else ["--no-leave-one-out"]
    start = f"agiqa experiment {request.kind} {request.recipe} --rounds {request.rounds}"
    return " ".join([start, *shown, *tests, *rivals, *rest])
