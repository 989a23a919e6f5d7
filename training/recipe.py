"""Recipes: YAML files that say everything about a training run, validated as a whole.

``kind: backbone`` pre-trains a CLIP of our own; ``kind: method`` trains a method's parameters on a
backbone and writes a checkpoint. ``base: NAME`` takes another recipe's settings, its own over them.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from model.config import Architecture, BackboneConfig, CropPolicy, Normalisation
from model.methods.policy import serving_policy
from model.methods.registry import network_type
from training.data.dataset import DataSet
from training.data.datasets import DATA_SETS
from training.data.table import table_set
from training.data.wordnet import FOLDER
from training.engine.schedule import Schedule
from training.errors import RecipeError
from training.methods.base import OBJECTIVES, objective_type
from training.methods.pretrain import PretrainWeights
from training.settings import apply, merged
from training.splits.split import Split
from training.words.recipe import WordsRecipe

BUILT_IN = Path(__file__).parent / "recipes"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableRecipe(_Section):
    """The scale of a data set of one's own, a CSV: from ``low`` to ``high``, or the other way
    round; ``file`` names the table where the folder has several.
    """

    low: float
    high: float
    lower_better: bool = False
    file: str | None = None

    @model_validator(mode="after")
    def _is_a_scale(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"a scale from {self.low:g} to {self.high:g} is empty")
        return self


class _Recipe(_Section):
    """What every run says.

    ``data``: the folder of each data set, given by ``--set data.NAME=FOLDER``; ``tables`` declares
    those of one's own; ``labels``: folders of LIQE's label files, for scenes and distortions of a
    set that does not tell them. ``out`` is what is written, ``work`` keeps the state for resuming.
    ``zooms``: how much larger than a crop the whole image is squashed before one is cut from it.
    ``cache_gib``: decoded images in memory, at most. ``about`` and ``limits`` are for the card.
    """

    name: str
    tables: dict[str, TableRecipe] = Field(default_factory=dict)
    data: dict[str, Path] = Field(min_length=1)
    labels: dict[str, Path] = Field(default_factory=dict)
    out: Path
    work: Path
    seed: int = 0
    device: str = "auto"
    cache_gib: float = Field(default=4.0, ge=0)
    zooms: tuple[float, ...] = (1.0,)
    split: Split = Split()
    crop_policy: CropPolicy = CropPolicy()
    normalisation: Normalisation = Normalisation()
    about: str = ""
    limits: tuple[str, ...] = ()

    # Validators of fields, not of the whole: they run beside other fields' faults, so that all are
    # named at once. What they compare with stands above them, and is missing if it is at fault.
    @field_validator("data", mode="before")
    @classmethod
    def _name_known_sets(cls, data: Any, info: ValidationInfo) -> Any:
        """Before pydantic, which would call a null no valid path."""
        faults = []
        for name, folder in data.items() if isinstance(data, Mapping) else ():
            if name not in DATA_SETS and name not in info.data.get("tables", data):
                faults.append(
                    f"unknown data set {name}; known: {', '.join(DATA_SETS)}; a CSV of your own "
                    f"needs its scale: --set tables.{name}.low=... --set tables.{name}.high=..."
                )
            if folder is None:
                faults.append(f"give the folder of {name}: --set data.{name}=FOLDER")
        return _checked(data, faults)

    @field_validator("labels", mode="before")
    @classmethod
    def _belong_to_sets(cls, labels: Any, info: ValidationInfo) -> Any:
        faults = []
        for name, folder in labels.items() if isinstance(labels, Mapping) else ():
            if folder is None:
                faults.append(
                    f"{name} needs LIQE's label files (*_clip.txt): --set labels.{name}=FOLDER"
                )
            if name not in info.data.get("data", labels):
                faults.append(f"there are labels for {name}, which is not among the data")
        return _checked(labels, faults)

    @model_validator(mode="after")
    def _has_images_to_choose_on(self) -> Self:
        split = self.split
        if self.judged_by == "validation" and not (split.inner or split.states_validation):
            raise ValueError("split.inner=0 leaves no image to choose the epoch on: set it higher")
        return self

    @property
    def judged_by(self) -> Literal["validation", "test"]:
        """The part that the epoch is chosen on."""
        return "validation"

    @property
    def sets(self) -> dict[str, DataSet]:
        """The data sets by name, in the recipe's order."""
        own = {
            name: table_set(name, t.low, t.high, lower_better=t.lower_better, file=t.file)
            for name, t in self.tables.items()
        }
        return {name: own.get(name) or DATA_SETS[name] for name in self.data}


class Stage(_Section):
    """A stage of pre-training; ``data`` tells how often an epoch takes each image of a set.
    ``part``: only a square of so many patches a side is looked at of every view; null: all.
    ``frozen_stem``: so many of the seven stages of a pretrained stem learn nothing, so that steps
    are cheaper, and nothing that is random undoes them; 8: all of it.
    """

    name: str
    data: dict[str, Annotated[int, Field(ge=1)]]
    schedule: Schedule
    part: int | None = Field(default=None, ge=1)
    frozen_stem: int = Field(default=0, ge=0, le=8)

    @model_validator(mode="after")
    def _takes_some_of_each_set(self) -> Self:
        _check_quotas(self.schedule, self.data)
        return self


class BackboneRecipe(_Recipe):
    """Pre-training; a share of the patches is left out of every training view. ``stem_weights``:
    what the stem starts from, where the architecture names a network that has been trained;
    ``words``: what the text tower learns before it sees an image; null: nothing.
    """

    kind: Literal["backbone"]
    architecture: Architecture
    stem_weights: Literal["imagenet"] | None = None
    words: WordsRecipe | None = None
    stages: tuple[Stage, ...] = Field(min_length=1)
    weights: PretrainWeights = PretrainWeights()
    patch_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    word_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _stages_have_their_data(self) -> Self:
        for stage in self.stages:
            if unknown := set(stage.data) - set(self.data):
                raise ValueError(f"stage {stage.name}: data has no {', '.join(sorted(unknown))}")
        return self

    @model_validator(mode="after")
    def _fits_its_stem(self) -> Self:
        named = isinstance(self.architecture.stem, str)
        if self.stem_weights and not named:
            raise ValueError("stem_weights are for an architecture whose stem is a named network")
        if parts := [stage.name for stage in self.stages if stage.part and named]:
            raise ValueError(f"stage {parts[0]}: part is for stems of plain convolutions")
        return self


class MethodRecipe(_Recipe):
    """Training of a method.

    ``backbone`` is a folder that a backbone recipe wrote (relative to ``out``), the name of a
    bundled one, or names one as a checkpoint's configuration does. ``options`` are the method's,
    ``weights`` those of its losses.
    ``protocol``: under ``paper`` the published one is repeated: no inner validation part is taken
    from the training part (``split.inner`` is 0), and unless the split states a validation part the
    epoch is chosen on the test part, and every figure is labelled so. ``spare_backbone``: what a
    backbone of our own was trained on goes to the training part, so that any other split of its
    data holds no leak.
    ``serve_policy``: the crops that the checkpoint serves, beside ``crop_policy``, which it is
    measured with; null: the same, but the grid in place of crops without a ceiling or at random.
    ``degraded_test``: so many of the best-rated test images are degraded, to measure whether their
    quality falls.
    ``calibrate``: in the end the consistency is made to mean what it says, on the validation part,
    whose prompts are new to it as a user's are.
    ``features``: where features of whole images by a tower that does not learn are kept; null: in
    ``work``.
    """

    kind: Literal["method"]
    method: str
    backbone: Path | BackboneConfig
    protocol: Literal["clean", "paper"] = "clean"
    spare_backbone: bool = False
    serve_policy: CropPolicy | None = None
    degraded_test: int = Field(default=0, ge=0)
    calibrate: bool = False
    features: Path | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    schedule: Schedule
    weights: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _train_on_all_that_the_paper_does(cls, content: Any) -> Any:
        if not isinstance(content, Mapping) or content.get("protocol") != "paper":
            return content
        split = content.get("split", {})
        shares = split.get("shares") if isinstance(split, Mapping) else None
        # Across data sets there is no test part, and the epoch is chosen on an inner part.
        if not isinstance(split, Mapping) or (
            isinstance(shares, Mapping) and not shares.get("test")
        ):
            return content
        return {**content, "split": {**split, "inner": 0.0}}

    @model_validator(mode="after")
    def _is_calibrated_on_what_is_not_measured(self) -> Self:
        if self.calibrate and self.judged_by == "test":
            raise ValueError(
                "calibrate would fit the test part, which has the place of a validation part here: "
                "set calibrate=false, or protocol=clean"
            )
        return self

    @property
    def judged_by(self) -> Literal["validation", "test"]:
        """The part that the epoch is chosen on."""
        on_test = self.protocol == "paper" and self.split.tests
        return "test" if on_test and not self.split.states_validation else "validation"

    @property
    def served_policy(self) -> CropPolicy:
        """What the checkpoint scores with when it is served."""
        return self.serve_policy or serving_policy(self.crop_policy)

    @field_validator("method")
    @classmethod
    def _can_be_trained(cls, method: str) -> str:
        if method not in OBJECTIVES:
            raise ValueError(f"{method} can't be trained; choose one of {', '.join(OBJECTIVES)}")
        return method

    @field_validator("schedule")
    @classmethod
    def _takes_some_of_each_set(cls, schedule: Schedule, info: ValidationInfo) -> Schedule:
        _check_quotas(schedule, info.data.get("data", schedule.quotas))
        policy = info.data.get("crop_policy")
        if policy and policy.kind == "whole" and (schedule.degraded or schedule.windows > 1):
            raise ValueError("degraded and windows are not for whole images: leave them out")
        return schedule

    @field_validator("options", "weights", mode="before")
    @classmethod
    def _fit_the_method(cls, content: Any, info: ValidationInfo) -> Any:
        if method := info.data.get("method"):
            options, weights = (
                network_type(method).options_type,
                objective_type(method).weights_type,
            )
            (options if info.field_name == "options" else weights).model_validate(content)
        return content


Recipe = Annotated[BackboneRecipe | MethodRecipe, Field(discriminator="kind")]
_RECIPE: TypeAdapter[BackboneRecipe | MethodRecipe] = TypeAdapter(Recipe)


def built_in_names() -> list[str]:
    """The recipes that come with the package, those that only others stand on left out."""
    paths = sorted(BUILT_IN.rglob("*.yaml"))
    names = [path.relative_to(BUILT_IN).with_suffix("").as_posix() for path in paths]
    return [name for name in names if not name.endswith("/base")]


def load_recipe(name_or_path: str, settings: Sequence[str] = ()) -> BackboneRecipe | MethodRecipe:
    """Reads a recipe by built-in name or path, with ``key.sub=value`` settings over it (values in
    YAML).

    Raises:
        RecipeError: every unknown, missing or unfitting setting, all at once.
    """
    content, called = read_content(name_or_path, settings)
    return validated(content, called)


def read_content(name_or_path: str, settings: Sequence[str] = ()) -> tuple[dict[str, Any], str]:
    """What a recipe states with its settings, not yet validated, and the name of its file.

    Raises:
        RecipeError: no such recipe, no YAML, or a setting that can't be applied.
    """
    path = _find(name_or_path)
    content = _read(path)
    for setting in settings:
        apply(content, setting)
    return content, path.name


def validated(content: Mapping[str, Any], called: str) -> BackboneRecipe | MethodRecipe:
    """The recipe that a mapping states.

    Raises:
        RecipeError: names every fault.
    """
    try:
        return _RECIPE.validate_python(content)
    except ValidationError as error:
        listed = "\n".join(f"  {_fault(e['loc'][1:], e['msg'])}" for e in error.errors())
        raise RecipeError(f"{called} can't be run:\n{listed}") from error


def _fault(place: Sequence[int | str], message: str) -> str:
    """A fault with its place, in few words."""
    message = message.removeprefix("Value error, ")
    return f"{'.'.join(map(str, place))}: {message}" if place else message


def _check_quotas(schedule: Schedule, data: Collection[str]) -> None:
    if schedule.quotas and set(schedule.quotas) != set(data):
        raise ValueError(
            f"quotas are for {', '.join(schedule.quotas)}, the data are {', '.join(data)}: set a "
            "quota for each of them, and for no other"
        )


def _checked(content: Any, faults: Sequence[str]) -> Any:
    """The content, if nothing is wrong with it."""
    if faults:
        raise ValueError("\n  ".join(faults))
    return content


def shown_settings(settings: Sequence[str], recipe: BackboneRecipe | MethodRecipe) -> list[str]:
    """The settings as a card or report shows them: data sets by name in place of this machine's
    folders, which are left out.
    """
    private = (
        *("data.", "data=", "labels.", "labels=", "out=", "work=", "features=", "words.folder="),
    )
    folders = [f"data.{name}={name}" for name in recipe.data]
    folders += [f"labels.{name}=IQA_Database" for name in recipe.labels]
    if isinstance(recipe, BackboneRecipe) and recipe.words:
        folders.append(f"words.folder={FOLDER}")
    return [*folders, *(setting for setting in settings if not setting.startswith(private))]


def _find(name_or_path: str) -> Path:
    built_in = BUILT_IN / f"{name_or_path}.yaml"
    path = built_in if built_in.is_file() else Path(name_or_path)
    if not path.is_file():
        names = ", ".join(built_in_names())
        raise RecipeError(f"no recipe {name_or_path!r}: give a YAML file, or one of {names}")
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} is no recipe: it holds no settings")
    base = content.pop("base", None)
    if base is None:
        return content
    beside = path.parent / f"{base}.yaml"
    return merged(_read(beside if beside.is_file() else _find(str(base))), content)
