"""What a new user types first: the make targets, the versions, the licence."""

import re
import shutil
import subprocess
import tomllib
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in pairs}


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_help_names_every_target() -> None:
    made = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True)
    for target in ("serve", "check", "test", "cov", "lint", "typecheck", "audit", "bench"):
        assert re.search(rf"make {target}\s+\w", made.stdout)


RUNTIME = [
    *PROJECT["dependencies"],
    *PROJECT["optional-dependencies"]["score"],
    *PROJECT["optional-dependencies"]["train"],
]


def test_the_base_install_is_what_serving_and_scoring_to_csv_need() -> None:
    base = {Requirement(line).name for line in PROJECT["dependencies"]}
    score = {Requirement(line).name for line in PROJECT["optional-dependencies"]["score"]}
    assert score == {"jinja2", "pyarrow"}
    assert not base & (score | {"pandas", "matplotlib", "scipy"})


def test_make_serve_installs_what_reports_and_parquet_need() -> None:
    assert "--editable '.[score]'" in (ROOT / "Makefile").read_text()
    assert "agiqa[docs,otel,score,train]" in PROJECT["optional-dependencies"]["dev"]


@pytest.mark.parametrize("line", dict.fromkeys(RUNTIME))
def test_the_tested_version_of_a_dependency_is_named_and_lies_in_its_range(line: str) -> None:
    wanted = Requirement(line)
    assert wanted.specifier, "a runtime dependency is a range"
    assert pins()[wanted.name.lower().replace("_", "-")] in wanted.specifier


def test_development_tools_are_pinned_to_what_the_constraints_say() -> None:
    tools = [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]
    for tool in tools:
        pinned = [spec.version for spec in tool.specifier if spec.operator == "=="]
        if tool.name != "agiqa":
            assert pinned == [pins()[tool.name.lower().replace("_", "-")]], tool.name


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0"])
def test_the_tested_versions_can_be_had_on_every_python_that_is_supported(python: str) -> None:
    # Ray is the one pin that a development environment may lack.
    found = {name: distribution(name) for name in pins() if name != "ray" or find_spec("ray")}
    needs = {
        name: str(found[name].metadata.json.get("requires_python", ""))
        for name, version in pins().items()
        if name in found and found[name].version == version  # another one was chosen here by hand
    }
    assert needs
    assert [name for name, wanted in needs.items() if python not in SpecifierSet(wanted)] == []


def test_ci_calls_only_make() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert [line for line in script.splitlines() if line.startswith("make ")] == [
        "make lint",
        "make typecheck",
        "make test",
        "make test-dtype",
        "make drills PART=trusted SHORT=1",
        "make drills PART=overload SHORT=1",
    ]


def test_the_notice_reproduces_the_notices_of_the_training_data() -> None:
    notice = (ROOT / "NOTICE").read_text()
    assert "AGIQA-3K" in notice
    assert "MIT License" in notice
    assert "Laboratory for \nImage and Video Engineering" in notice
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_every_folder_of_code_is_a_package_that_is_installed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for top in ("app", "model", "reporting", "training")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(setuptools["packages"]) == found
    for package, patterns in setuptools["package-data"].items():
        folder = ROOT / package.replace(".", "/")
        for pattern in patterns:
            assert pattern == "py.typed" or any(folder.glob(pattern)), f"{package}: {pattern}"


@pytest.mark.parametrize(
    ("package", "weak"), [("pillow", "12.3.0"), ("python-multipart", "0.0.26")]
)
def test_versions_that_a_hostile_upload_can_harm_are_not_installed(package: str, weak: str) -> None:
    (wanted,) = [r for line in PROJECT["dependencies"] if (r := Requirement(line)).name == package]
    assert weak not in wanted.specifier
