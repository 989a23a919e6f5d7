"""What the documentation says is what the code gives."""

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

import model
from benchmarks.costs import BUNDLED, HEADER, PAPERS, bundled_cost
from benchmarks.recipes import HEADER as HEADER_OF_RECIPES
from benchmarks.recipes import line, paper_recipes
from model.methods.registry import METHODS
from model.store.checkpoint import find
from training.data.datasets import DATA_SETS
from training.recipe import built_in_names
from training.research.reproduce.cost import Counts

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("name", BUNDLED)
def test_the_table_of_costs_is_what_the_command_counts(name: str) -> None:
    text = (DOCS / "methods.md").read_text()
    assert HEADER in text
    assert bundled_cost(name).line() in text


def test_the_table_of_costs_holds_every_method() -> None:
    text = (DOCS / "methods.md").read_text()
    assert {method for method, _, _ in PAPERS} == set(METHODS)
    for method, architecture, _ in PAPERS:
        assert re.search(
            rf"^\| {method} \| {architecture.removesuffix('-quickgelu')} \|", text, re.M
        )


def test_files_and_options_that_the_documentation_names_exist() -> None:
    """The walks of docs/architecture.md among them: what it names is where it says."""
    tops = "app|benchmarks|docs|model|reporting|tests|training"
    for page in [DOCS.parent / "CONTRIBUTING.md", *DOCS.rglob("*.md")]:
        for named in re.findall(rf"`((?:{tops})/[\w/.-]*)`", page.read_text()):
            assert (DOCS.parent / named).exists(), f"{page.name} names {named}"


class _Registry(dict[str, Any]):
    """As much of pyiqa's registry as a plug-in touches: a second registration raises."""

    def register(self, thing: type) -> None:
        assert thing.__name__ not in self
        self[thing.__name__] = thing


@pytest.fixture
def pyiqa_tables(monkeypatch: pytest.MonkeyPatch) -> tuple[_Registry, dict[str, Any]]:
    """Stands in for pyiqa's two tables, under their real module names."""
    registry, configs = _Registry(), dict[str, Any]()
    for name, members in (
        ("pyiqa", {}),
        ("pyiqa.utils", {}),
        ("pyiqa.utils.registry", {"ARCH_REGISTRY": registry}),
        ("pyiqa.default_model_configs", {"DEFAULT_CONFIGS": configs}),
    ):
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return registry, configs


def load_example() -> None:
    spec = importlib.util.spec_from_file_location(
        "agiqa_pyiqa", DOCS / "examples" / "agiqa_pyiqa.py"
    )
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_the_plug_in_registers_once_and_scores_as_the_scorer(
    pyiqa_tables: tuple[_Registry, dict[str, Any]],
) -> None:
    registry, configs = pyiqa_tables
    load_example()
    load_example()
    assert configs["agiqa"]["metric_mode"] == "NR"
    assert configs["agiqa"]["lower_better"] is model.load("tiny-mpiqe").lower_better
    assert configs["agiqa"]["score_range"] == model.load("tiny-mpiqe").score_range
    make: Callable[..., torch.nn.Module] = registry[configs["agiqa"]["metric_opts"]["type"]]
    images = torch.rand(2, 3, 240, 260, generator=torch.Generator().manual_seed(0))
    scores = make()(images)
    assert torch.equal(scores, model.load("tiny-mpiqe", device="cpu")(images))
    other = make(checkpoint="tiny-clip-agiqa")(images)
    assert other.shape == (2, 1)
    assert not torch.equal(other, scores)


def test_a_scorer_reads_as_the_page_for_users_of_pyiqa_says(tmp_path: Path) -> None:
    metric = model.load("tiny-mpiqe", device="cpu")
    Image.new("RGB", (300, 240), "grey").save(tmp_path / "photo.png")
    assert metric.lower_better is False
    assert metric.score_range == "0, 1"
    one = metric(str(tmp_path / "photo.png"))
    assert one.shape == (1, 1)
    assert find("tiny-mpiqe").is_dir()


def test_the_recipes_and_experiments_that_the_documentation_names_exist() -> None:
    names = built_in_names()
    for page in DOCS.glob("*.md"):
        commands = re.findall(r"^agiqa (?:train|experiment \S+) (\S+)", page.read_text(), re.M)
        for named in commands:
            known = named in names or named == "mp-iqe/SET"
            assert known or named.isupper(), f"{page.name} names the recipe {named}"
    text = (DOCS / "training.md").read_text()
    for name in names:
        method, _, data_set = name.rpartition("/")
        assert f"`{name}`" in text or (f"`{method}/" in text and f"/{data_set}`" in text), name
    for data in DATA_SETS.values():
        assert f"| {data.name} |" in text
        assert f"| {data.images} |" in text


def test_the_table_of_what_recipes_cost_holds_every_recipe_and_is_counted() -> None:
    text = (DOCS / "reproduce.md").read_text()
    assert HEADER_OF_RECIPES in text
    recipes = paper_recipes()
    for recipe in recipes:
        assert f"\n| {recipe.name} | " in text
    cheapest = next(r for r in recipes if r.name == "clip-iqa-plus-live-challenge")
    assert line(cheapest, Counts()(cheapest)) in text
