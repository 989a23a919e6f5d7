from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training.runs import BACKBONE, METHOD
from training.errors import RecipeError
from training.recipe import BUILT_IN, MethodRecipe, load_recipe

PLACES = {"out": "y", "work": "z"}


def write(folder: Path, content: dict[str, Any]) -> str:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


def test_a_recipe_names_every_fault_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, {**METHOD, **PLACES, "data": {"AGIQA-3K": "x"}})
    with pytest.raises(RecipeError, match=r"(?s)schedule\.epochs.*colour"):
        load_recipe(file, ["schedule.epochs=many", "colour=blue"])


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no folder": ({"data": {"AGIQA-3K": None}}, r"--set data\.AGIQA-3K=FOLDER"),
    "unknown set": ({"data": {"TID2013": "x"}}, "unknown data set TID2013; known: AGIQA-3K"),
    "two sets": ({"data": {"AGIQA-3K": "x", "LIVE-Challenge": "y"}}, "takes one data set"),
    "untrained method": ({"method": "clip-iqa"}, "clip-iqa can't be trained; choose one of"),
    "option": ({"options": {"colour": 1}}, "colour"),
    "loss weight": ({"weights": {"colour": 1}}, "colour"),
    "kind": ({"kind": "ensemble"}, "kind"),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=list(FAULTS))
def test_what_does_not_fit_is_refused_before_anything_runs(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    file = write(tmp_path, {**METHOD, **PLACES, "data": {"AGIQA-3K": "x"}, **change})
    with pytest.raises(RecipeError, match=message):
        load_recipe(file)


def test_a_stage_of_an_unnamed_set_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, {**BACKBONE, **PLACES, "data": {"AGIQA-3K": "x"}})
    with pytest.raises(RecipeError, match="stage joint: data has no LIVE-Challenge"):
        load_recipe(file)


@pytest.mark.parametrize("setting", ["no-equals", "name.sub=1"], ids=["no value", "no section"])
def test_a_setting_that_can_not_be_applied_is_named(setting: str) -> None:
    with pytest.raises(RecipeError, match=setting):
        load_recipe("tiny-clip-agiqa", [setting])


def test_an_unknown_recipe_lists_the_built_in_ones() -> None:
    with pytest.raises(RecipeError, match="tiny-backbone, tiny-clip-agiqa, tiny-mpiqe"):
        load_recipe("huge-clip-agiqa")


@pytest.mark.parametrize("name", sorted(path.stem for path in BUILT_IN.glob("*.yaml")))
def test_every_built_in_recipe_is_valid_once_its_data_is_named(name: str) -> None:
    content = yaml.safe_load((BUILT_IN / f"{name}.yaml").read_text())
    settings = [f"data.{data}=somewhere" for data in content["data"]]
    loaded = load_recipe(name, settings)
    assert loaded.name == name
    assert loaded.about
    if isinstance(loaded, MethodRecipe):
        assert loaded.limits
        assert loaded.crop_policy.global_view
