"""Recipes: YAML files that say everything about a training run, validated as a whole."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.config import Architecture, ClipAgiqaOptions, CropPolicy, Normalisation
from training.engine import Schedule
from training.errors import RecipeError
from training.pretrain import PretrainWeights
from training.tune import TuneWeights

BUILT_IN = Path(__file__).parent / "recipes"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SplitRecipe(_Section):
    """Shares of the prompts per part, and the seed of the draw."""

    seed: int = 1
    shares: dict[str, float] = Field(default={"train": 0.75, "validation": 0.10, "test": 0.15})


class PretrainRecipe(_Section):
    """Stage 1: the backbone; a share of the patches is left out of every training view."""

    architecture: Architecture
    schedule: Schedule
    weights: PretrainWeights = PretrainWeights()
    patch_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


class TuneRecipe(_Section):
    """Stage 2: the prompts."""

    options: ClipAgiqaOptions = ClipAgiqaOptions()
    schedule: Schedule
    weights: TuneWeights = TuneWeights()


class Recipe(_Section):
    """A whole run. ``data`` is AGIQA-3K's folder, ``out`` the checkpoint's, ``work`` keeps the
    state for resuming.

    ``zooms``: how much larger than a crop the whole image is squashed before one is cut from it.
    ``shared_backbone`` names a folder beside ``out`` that holds the backbone, so that several
    checkpoints can refer to it; without it the checkpoint carries its own.
    """

    name: str
    data: Path
    out: Path
    work: Path
    shared_backbone: str | None = None
    seed: int = 0
    zooms: tuple[float, ...] = (1.0,)
    split: SplitRecipe = SplitRecipe()
    crop_policy: CropPolicy = CropPolicy()
    normalisation: Normalisation = Normalisation()
    pretrain: PretrainRecipe
    tune: TuneRecipe


def load_recipe(name_or_path: str, settings: Sequence[str] = ()) -> Recipe:
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
        return Recipe.model_validate(content)
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
