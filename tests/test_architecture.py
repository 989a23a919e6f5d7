"""Who may import whom, read off the imports (those inside functions too)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"app", "model", "training"}
TORCH = {"torch", "torchvision", "open_clip", "safetensors", "timm"}
HTTP = {"fastapi", "starlette", "uvicorn", "httpx", "prometheus_client"}
# The batcher and what it stands on: the standard library and each other only.
CORE = {"app.errors", "app.rate", "app.admission", "app.scheduler", "app.batcher"}


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
    [("model", {"app", "training"} | HTTP), ("training", {"app"} | HTTP), ("app", {"training"})],
    ids=["model", "training", "app"],
)
def test_packages_import_only_what_they_may(package: str, forbidden: set[str]) -> None:
    assert modules(package)
    for path in modules(package):
        assert not tops(path) & forbidden, path


def test_only_the_worker_imports_torch_in_app() -> None:
    with_torch = {p.name for p in modules("app") if tops(p) & TORCH}
    assert with_torch == {"worker.py"}


@pytest.mark.parametrize("module", sorted(CORE))
def test_the_batcher_stands_on_the_standard_library_alone(module: str) -> None:
    path = ROOT / f"{module.replace('.', '/')}.py"
    for name in imports(path):
        top = name.partition(".")[0]
        ours = any(name == core or name.startswith(f"{core}.") for core in CORE)
        assert top in sys.stdlib_module_names or ours, name


def test_no_tests_or_benchmarks_are_imported_by_the_product() -> None:
    for package in OURS:
        for path in modules(package):
            assert not tops(path) & {"tests", "benchmarks"}, path


@pytest.mark.parametrize("what", ["app.main", "app.cli", "model"])
def test_importing_the_api_side_does_not_import_torch(what: str) -> None:
    code = f"import sys, {what}; print([m for m in {sorted(TORCH)!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
