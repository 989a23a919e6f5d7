"""A table's experiments on the folders and settings that were chosen for it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.data.samples import Sample
from training.errors import RecipeError
from training.recipe import MethodRecipe, read_content
from training.research.experiments.experiment import Request, grid_of, recipe_of
from training.research.experiments.grid import Content, Grid
from training.research.experiments.run import Runner
from training.research.reproduce import zero_shot
from training.research.reproduce.backbones import refuse_checkpoint
from training.research.reproduce.catalogue import PaperTable, Part
from training.run import train

# The folder of LIQE's label files, as their repository calls it.
LABELS = "IQA_Database"

Samples = Mapping[str, Sequence[Sample]]


@dataclass(frozen=True)
class Reproduction:
    """What the command line asks for. Data sets lie below ``data`` by their names, or where a
    setting ``data.NAME`` says; ``weights``: files of CLIP's weights by architecture, in place of
    open_clip's download; ``partial``: sets of which images are missing are taken as they are.
    ``out`` holds the experiments of all tables, so that they share what they have in common.
    """

    table: PaperTable
    data: Path
    out: Path
    settings: tuple[str, ...] = ()
    weights: Mapping[str, Path] | None = None
    rounds: int = 10
    protocol: Literal["paper", "clean"] = "paper"
    rivals: tuple[str, ...] = ()
    partial: bool = False

    @property
    def folder(self) -> Path:
        """Of the table's own report."""
        return self.out / self.table.name


@dataclass(frozen=True)
class Job:
    """One experiment of a table: its request and recipe, and the foreign sets."""

    part: Part
    request: Request
    base: MethodRecipe
    content: Content

    @property
    def runner(self) -> Runner:
        """What fills a cell."""
        return zero_shot.measure if self.part.kind == "without-training" else train

    @property
    def method(self) -> str:
        """The papers' name of the method; empty: that of the recipe."""
        return zero_shot.PAPER_NAME if self.part.kind == "without-training" else ""

    def grid(self, samples: Samples) -> Grid:
        """Its cells; without samples as many, enough to plan by."""
        return grid_of(self.request, self.base, self.content, samples)


def jobs_of(reproduction: Reproduction) -> list[Job]:
    """The table's experiments, their recipes validated.

    Raises:
        RecipeError: a setting that no recipe of the table can take, or a checkpoint in the place of
            a backbone.
    """
    parts = reproduction.table.parts
    sets = dict.fromkeys(name for part in parts for name in _names(part, "data"))
    sets |= dict.fromkeys(name for part in parts for name in part.tests)
    for setting in reproduction.settings:
        key, _, _ = setting.partition("=")
        section, _, name = key.partition(".")
        if section in _FOLDERS and name not in sets:
            raise RecipeError(
                f"--set {setting}: {reproduction.table.name} needs no {name or key}; it needs "
                f"{', '.join(sets)}"
            )
    return [_job(reproduction, part) for part in parts]


_FOLDERS = ("data", "labels")


def _job(reproduction: Reproduction, part: Part) -> Job:
    most = reproduction.rounds if part.rounds is None else min(part.rounds, reproduction.rounds)
    kind = "rounds" if part.kind == "without-training" else part.kind
    request = Request(
        kind=kind,
        recipe=part.recipe,
        settings=tuple(_settings(reproduction, part)),
        rounds=most,
        tests={name: _folder(reproduction, "data", name) for name in part.tests},
        rivals=reproduction.rivals,
        leave_one_out=False,
        out=reproduction.out / f"{part.kind}-{part.recipe.replace('/', '-')}",
    )
    base, content = recipe_of(request)
    refuse_checkpoint(base)
    return Job(part, request, base, content)


def _settings(reproduction: Reproduction, part: Part) -> list[str]:
    """Those of the part's recipe: folders first, then what the table asks, then the user."""
    content, _ = read_content(part.recipe)
    settings = [
        f"{section}.{name}={json.dumps(str(_folder(reproduction, section, name)))}"
        for section in _FOLDERS
        for name in content.get(section, {})
    ]
    # A foreign set chooses no epoch: across sets there is no test part of one's own to choose on.
    if part.kind != "cross-dataset":
        settings.append(f"protocol={reproduction.protocol}")
    architecture = content["backbone"].get("name", "")
    if (file := (reproduction.weights or {}).get(architecture)) is not None:
        backbone = {"source": "file", "name": architecture, "path": str(file.resolve())}
        settings.append(f"backbone={json.dumps(backbone)}")
    others = (s for s in reproduction.settings if not s.startswith(("data.", "labels.")))
    return [*settings, *others]


def _folder(reproduction: Reproduction, section: str, name: str) -> Path:
    """Where a set, or its labels, should lie."""
    prefix = f"{section}.{name}="
    for setting in reproduction.settings:
        if setting.startswith(prefix):
            return Path(setting.removeprefix(prefix))
    return reproduction.data / (name if section == "data" else LABELS)


def _names(part: Part, section: str) -> list[str]:
    content, _ = read_content(part.recipe)
    return list(content.get(section, {}))
