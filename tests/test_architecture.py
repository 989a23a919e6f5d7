"""Who may import whom, read off the imports (those inside functions too)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from model.methods import registry

ROOT = Path(__file__).parent.parent
OURS = {"app", "model", "reporting", "training"}
TORCH = {"torch", "torchvision", "open_clip", "safetensors", "timm"}
HTTP = {
    "fastapi",
    "starlette",
    "uvicorn",
    "httpx",
    "prometheus_client",
    "requests",
    "urllib",
    "http",
}
# The method modules, by the registry that names them.
METHODS = {place.partition(":")[0] for place in registry.METHODS.values()}
# The batcher and what it stands on: the standard library and each other only.
CORE = {
    "app.batching.errors",
    "app.batching.rate",
    "app.batching.admission",
    "app.batching.scheduler",
    "app.batching.batcher",
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("model", {"app", "reporting", "training"} | HTTP),
        ("reporting", {"app", "model", "training"} | TORCH | HTTP),
        ("training", {"app"} | HTTP),
        ("app", {"training"}),
    ],
    ids=["model", "reporting", "training", "app"],
)
def test_packages_import_only_what_they_may(package: str, forbidden: set[str]) -> None:
    assert modules(package)
    for path in modules(package):
        assert not tops(path) & forbidden, path


def test_only_the_worker_imports_torch_in_app() -> None:
    with_torch = {p.name for p in modules("app") if tops(p) & TORCH}
    assert with_torch == {"worker.py"}


def path_of(module: str) -> Path | None:
    """The file of a module of ours; None for a name inside a module, or of somebody else."""
    path = ROOT / f"{module.replace('.', '/')}.py"
    return path if module.partition(".")[0] in OURS and path.is_file() else None


def reached(module: str) -> set[str]:
    """The module and everything of ours that it imports, directly or not."""
    found, waiting = {module}, [module]
    while waiting:
        path = path_of(waiting.pop())
        new = {name for name in imports(path) if path_of(name)} - found if path else set()
        found |= new
        waiting += new
    return found


def needs_torch(module: str) -> bool:
    return any(tops(path) & TORCH for name in reached(module) if (path := path_of(name)))


def test_nothing_that_the_service_is_made_of_imports_what_needs_torch() -> None:
    """The worker is a process of its own; the commands load what they need themselves."""
    service = {name for name in reached("app.main") if name.startswith("app.")}
    assert "app.service" in service
    assert not any(
        name.startswith(("app.cli.main", "app.bulk", "app.cli.doctor")) for name in service
    )
    for name in service:
        path = path_of(name)
        heavy = (
            {n for n in imports(path) if n.startswith("model.") and needs_torch(n)} if path else ()
        )
        assert not heavy, (name, heavy)
    assert needs_torch("model.store.checkpoint")
    assert not needs_torch("model.config")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_no_method_module_imports_another_methods(method: str) -> None:
    assert path_of(method), f"{method} has no file of its own"
    assert reached(method) & METHODS == {method}


def test_what_the_methods_share_imports_none_of_them() -> None:
    """But for the import of published weights, which is CLIP-AGIQA's alone."""
    users = {path.stem for path in modules("model") if imports(path) & METHODS}
    assert users == {"official"}


@pytest.mark.parametrize("module", sorted(CORE))
def test_the_batcher_stands_on_the_standard_library_alone(module: str) -> None:
    path = ROOT / f"{module.replace('.', '/')}.py"
    for name in imports(path):
        top = name.partition(".")[0]
        ours = any(name == core or name.startswith(f"{core}.") for core in CORE)
        assert top in sys.stdlib_module_names or ours, name


# The rooms of the training package, from the ground up.
TRAINING = (
    *("errors", "data", "evaluation", "engine", "tuning", "recipe", "material", "manifest"),
    *("reports", "run", "explain", "experiments", "commands"),
)


def test_the_rooms_of_training_import_only_those_below() -> None:
    for path in modules("training"):
        inside = path.relative_to(ROOT / "training").with_suffix("").parts
        if inside == ("__init__",):
            continue
        above = TRAINING[TRAINING.index(inside[0]) + 1 :]
        rooms = {name.split(".")[1] for name in imports(path) if name.startswith("training.")}
        assert not rooms & set(above), path


def test_no_tests_or_benchmarks_are_imported_by_the_product() -> None:
    for package in OURS:
        for path in modules(package):
            assert not tops(path) & {"tests", "benchmarks"}, path


TORCH_FREE = ["config", "crops", "errors", "files", "hub", "images", "scores", "windows"]


@pytest.mark.parametrize(
    "what",
    [
        "app.main",
        "app.cli.main",
        "model",
        "reporting.html",
        *(f"model.{name}" for name in TORCH_FREE),
    ],
)
def test_importing_the_api_side_does_not_import_torch(what: str) -> None:
    code = f"import sys, {what}; print([m for m in {sorted(TORCH)!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
