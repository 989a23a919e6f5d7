import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training.runs import BACKBONE, METHOD
from training.errors import RecipeError
from training.recipe import MethodRecipe, built_in_names, load_recipe
from training.settings import merged

PLACES = {"out": "y", "work": "z"}


def write(folder: Path, content: dict[str, Any]) -> str:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


def test_a_recipe_names_every_fault_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, {**METHOD, **PLACES, "data": {"AGIQA-3K": "x"}})
    settings = ["schedule.epochs=many", "colour=blue", "data.AGIQA-3K=null", "weights.shape=1"]
    settings += ["weights.quality=much", "labels.AGIQA-3K=null"]
    faults = (
        r"(?s)--set data\.AGIQA-3K=FOLDER.*--set labels\.AGIQA-3K=FOLDER.*schedule\.epochs.*"
        r"weights\.quality.*weights\.shape.*colour"
    )
    with pytest.raises(RecipeError, match=faults):
        load_recipe(file, settings)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no folder": ({"data": {"AGIQA-3K": None}}, r"--set data\.AGIQA-3K=FOLDER"),
    "unknown set": ({"data": {"TID2013": "x"}}, "unknown data set TID2013; known: AGIQA-1K"),
    "labels of another set": ({"labels": {"LIVE": "x"}}, "LIVE, which is not among the data"),
    "labels without a folder": (
        {"labels": {"AGIQA-3K": None}},
        r"AGIQA-3K needs LIQE's label files .* --set labels\.AGIQA-3K=FOLDER",
    ),
    "empty scale": ({"tables": {"mine": {"low": 5, "high": 1}}}, "from 5 to 1 is empty"),
    "shares": ({"split": {"shares": {"train": 1.0}}}, "shares lack test"),
    "untrained method": ({"method": "clip-iqa"}, "clip-iqa can't be trained; choose one of"),
    "option": ({"options": {"colour": 1}}, "colour"),
    "loss weight": ({"weights": {"colour": 1}}, "colour"),
    "kind": ({"kind": "ensemble"}, "kind"),
    "quotas of other sets": (
        {"schedule": {"epochs": 1, "quotas": {"LIVE": 32}}},
        "quotas are for LIVE, the data are AGIQA-3K: set a quota for each of them",
    ),
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


@pytest.mark.parametrize("name", built_in_names())
def test_every_built_in_recipe_is_valid_once_its_data_is_named(name: str) -> None:
    settings: list[str] = []
    try:
        load_recipe(name)
    except RecipeError as error:  # it names what it lacks
        settings += re.findall(r"--set (\S+=)(?:FOLDER|package/dict)", str(error))
    loaded = load_recipe(name, [f"{setting}somewhere" for setting in settings])
    assert loaded.name == name.replace("/", "-")
    assert loaded.about
    if isinstance(loaded, MethodRecipe):
        assert loaded.limits


def test_the_published_protocol_takes_no_inner_part_but_across_data_sets(tmp_path: Path) -> None:
    split = {"shares": {"train": 0.8, "test": 0.2}}
    content = {**METHOD, **PLACES, "data": {"AGIQA-3K": "x"}, "split": split}
    paper = load_recipe(write(tmp_path, content), ["protocol=paper"])
    assert (paper.split.inner, paper.judged_by) == (0, "test")
    own = load_recipe(write(tmp_path, {**content, "split": METHOD["split"]}), ["protocol=paper"])
    assert own.judged_by == "validation"  # the split states one, which nothing else looks at
    across = ["protocol=paper", "split.shares={train: 1.0, test: 0.0}"]
    elsewhere = load_recipe(write(tmp_path, content), across)
    assert (elsewhere.split.inner, elsewhere.judged_by) == (0.1, "validation")


def test_nothing_is_calibrated_on_the_part_that_is_measured(tmp_path: Path) -> None:
    split = {"shares": {"train": 0.8, "test": 0.2}}
    content = {**METHOD, **PLACES, "data": {"AGIQA-3K": "x"}, "split": split, "calibrate": True}
    file = write(tmp_path, content)
    assert load_recipe(file).judged_by == "validation"
    with pytest.raises(RecipeError, match="calibrate would fit the test part"):
        load_recipe(file, ["protocol=paper"])


def test_a_clean_run_without_a_validation_part_is_refused(tmp_path: Path) -> None:
    split = {"shares": {"train": 0.8, "test": 0.2}, "inner": 0}
    file = write(tmp_path, {**METHOD, **PLACES, "data": {"AGIQA-3K": "x"}, "split": split})
    with pytest.raises(RecipeError, match="leaves no image to choose the epoch on"):
        load_recipe(file)
    assert load_recipe(file, ["protocol=paper"]).split.inner == 0


def test_sections_are_merged_but_data_and_shares_are_replaced_as_a_whole() -> None:
    below = {"data": {"A": 1}, "split": {"seed": 1, "shares": {"train": 0.5, "test": 0.5}}, "x": 1}
    above = {"data": {"B": 2}, "split": {"shares": {"train": 0.8, "unused": 0.2}}}
    assert merged(below, above) == {
        "data": {"B": 2},
        "split": {"seed": 1, "shares": {"train": 0.8, "unused": 0.2}},
        "x": 1,
    }
