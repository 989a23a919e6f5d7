"""Recipes: YAML files that say everything about a training run, validated as a whole.

``kind: backbone`` pre-trains a CLIP of our own; ``kind: method`` trains a method's parameters on a
backbone and writes a checkpoint.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from model.config import Architecture, BackboneConfig, CropPolicy, Normalisation
from model.registry import network_type
from training.data.datasets import DATA_SETS
from training.engine.loop import Schedule
from training.errors import RecipeError
from training.tuning.base import TASKS, tuning_type
from training.tuning.pretrain import PretrainWeights

BUILT_IN = Path(__file__).parent / "recipes"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SplitRecipe(_Section):
    """Shares of the groups (prompts, images) per part, and the seed of the draw."""

    seed: int = 1
    shares: dict[str, float] = Field(default={"train": 0.75, "validation": 0.10, "test": 0.15})


class _Recipe(_Section):
    """What every run says.

    ``data``: the folder of each data set, given by ``--set data.NAME=FOLDER``; ``out``: what is
    written; ``work`` keeps the state for resuming; ``zooms``: how much larger than a crop the whole
    image is squashed before one is cut from it; ``about`` and ``limits`` are prose for the card.
    """

    name: str
    data: dict[str, Path | None]
    out: Path
    work: Path
    seed: int = 0
    zooms: tuple[float, ...] = (1.0,)
    split: SplitRecipe = SplitRecipe()
    crop_policy: CropPolicy = CropPolicy()
    normalisation: Normalisation = Normalisation()
    about: str = ""
    limits: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_its_data(self) -> Self:
        for name, folder in self.data.items():
            if name not in DATA_SETS:
                raise ValueError(f"unknown data set {name}; known: {', '.join(DATA_SETS)}")
            if folder is None:
                raise ValueError(f"give the folder of {name}: --set data.{name}=FOLDER")
        return self

    def folder(self, name: str) -> Path:
        """Where a data set lies."""
        folder = self.data[name]
        assert folder is not None
        return folder


class Stage(_Section):
    """A part of pre-training; ``data`` tells how often an epoch takes each image of a set."""

    name: str
    data: dict[str, Annotated[int, Field(ge=1)]]
    schedule: Schedule


class BackboneRecipe(_Recipe):
    """Pre-training; a share of the patches is left out of every training view."""

    kind: Literal["backbone"]
    architecture: Architecture
    stages: tuple[Stage, ...] = Field(min_length=1)
    weights: PretrainWeights = PretrainWeights()
    patch_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _stages_have_their_data(self) -> Self:
        for stage in self.stages:
            if unknown := set(stage.data) - set(self.data):
                raise ValueError(f"stage {stage.name}: data has no {', '.join(sorted(unknown))}")
        return self


class MethodRecipe(_Recipe):
    """Training of a method on one data set.

    ``backbone`` is a folder that a backbone recipe wrote (relative to ``out``), or names one as a
    checkpoint's configuration does. ``options`` are the method's, ``weights`` those of its losses.
    """

    kind: Literal["method"]
    method: str
    backbone: Path | BackboneConfig
    options: dict[str, Any] = Field(default_factory=dict)
    schedule: Schedule
    weights: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_its_method(self) -> Self:
        if self.method not in TASKS:
            raise ValueError(f"{self.method} can't be trained; choose one of {', '.join(TASKS)}")
        if len(self.data) != 1:
            raise ValueError(f"a method takes one data set, not {len(self.data)}")
        network_type(self.method).options_type.model_validate(self.options)
        tuning_type(self.method).weights_type.model_validate(self.weights)
        return self

    @property
    def data_set(self) -> str:
        """The name of its data set."""
        return next(iter(self.data))


Recipe = Annotated[BackboneRecipe | MethodRecipe, Field(discriminator="kind")]
_RECIPE: TypeAdapter[BackboneRecipe | MethodRecipe] = TypeAdapter(Recipe)


def load_recipe(name_or_path: str, settings: Sequence[str] = ()) -> BackboneRecipe | MethodRecipe:
    """Reads a recipe by built-in name or path, with ``key.sub=value`` settings over it (values in
    YAML).

    Raises:
        RecipeError: every unknown, missing or unfitting setting, all at once.
    """
    built_in = BUILT_IN / f"{name_or_path}.yaml"
    path = built_in if built_in.is_file() else Path(name_or_path)
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in BUILT_IN.glob("*.yaml")))
        raise RecipeError(f"no recipe {name_or_path!r}: give a YAML file, or one of {names}")
    content = yaml.safe_load(path.read_text())
    for setting in settings:
        _apply(content, setting)
    try:
        return _RECIPE.validate_python(content)
    except ValidationError as error:
        faults = "\n".join(f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RecipeError(f"{path.name} can't be run:\n{faults}") from error


def _apply(content: dict[str, Any], setting: str) -> None:
    key, equals, value = setting.partition("=")
    if not equals:
        raise RecipeError(f"--set {setting!r}: write key=value")
    *parents, last = key.split(".")
    section: Any = content
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise RecipeError(f"--set {setting!r}: {parent} is no section")
    section[last] = yaml.safe_load(value)
