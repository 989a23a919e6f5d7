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
# The rooms of each package, from the ground up: a room imports from those below it alone.
LADDERS = {
    "app": (
        *("logs", "settings", "key_file", "batching", "device", "catalogue", "answer_cache"),
        *("metrics", "worker", "contents", "uploads", "quarantine", "score_cache", "scoring"),
        *("service", "http", "startup", "main", "ray", "bulk", "cli"),
    ),
    "model": (
        *("resources", "errors", "architecture", "config", "scores", "preprocess", "decoding"),
        *("hub", "clip", "methods", "store", "device_errors", "self_test", "staging", "scorer"),
        *("seal", "warm_up", "core_share", "pipeline", "diagnosis"),
    ),
    "training": (
        *("errors", "data", "splits", "sampling", "evaluation", "engine", "methods", "words"),
        *("settings", "recipe", "prepared_data", "provenance", "manifest", "reports"),
        *("pretrained_stem", "backbone", "run", "research", "commands"),
    ),
}
# Most modules that a reader holds in one folder; readers of data sets are a list.
MOST_IN_A_FOLDER = 16


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
    assert not any(name.startswith(("app.cli", "app.bulk")) for name in service)
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
    behind = reached(method)
    assert behind & METHODS == {method}
    assert "model.methods.network" in behind  # the walk did walk
    assert "model.methods.registry" not in behind


def test_what_the_methods_share_imports_none_of_them() -> None:
    """But for the import of published weights, which is CLIP-AGIQA's alone."""
    users = {path.stem for path in modules("model") if imports(path) & METHODS}
    assert users == {"official"}


@pytest.mark.parametrize("path", modules("app/batching"), ids=lambda path: path.stem)
def test_batching_stands_on_the_standard_library_alone(path: Path) -> None:
    for name in imports(path):
        top = name.partition(".")[0]
        assert top in sys.stdlib_module_names or name.startswith("app.batching"), name


@pytest.mark.parametrize(
    "path", modules("model/preprocess") + modules("model/decoding"), ids=lambda path: path.stem
)
def test_preprocessing_and_decoding_need_no_torch(path: Path) -> None:
    module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    assert not needs_torch(module)


@pytest.mark.parametrize("package", LADDERS)
def test_rooms_import_only_from_those_below(package: str) -> None:
    rooms = LADDERS[package]
    for path in modules(package):
        room = path.relative_to(ROOT / package).with_suffix("").parts[0]
        if room == "__init__":
            continue
        above = rooms[rooms.index(room) + 1 :]
        used = {name.split(".")[1] for name in imports(path) if name.startswith(f"{package}.")}
        assert not used & set(above), path


@pytest.mark.parametrize("package", LADDERS)
def test_no_folder_holds_more_than_a_reader_can(package: str) -> None:
    for folder in {path.parent for path in modules(package)} - {ROOT / "training/data/readers"}:
        assert len(list(folder.glob("[!_]*.py"))) <= MOST_IN_A_FOLDER, folder


def test_no_tests_or_benchmarks_are_imported_by_the_product() -> None:
    for package in OURS:
        for path in modules(package):
            assert not tops(path) & {"tests", "benchmarks"}, path


TORCH_FREE = [
    *("app.main", "app.cli.main", "app.cli.serve", "app.cli.score", "app.cli.models"),
    *("model", "model.config", "model.errors", "model.scores"),
    *("model.hub", "model.store.files", "model.preprocess.crops", "model.preprocess.images"),
    "reporting.html",
]


@pytest.mark.parametrize("what", TORCH_FREE)
def test_importing_the_api_side_does_not_import_torch(what: str) -> None:
    code = f"import sys, {what}; print([m for m in {sorted(TORCH)!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_ray_is_imported_by_what_runs_on_it_alone() -> None:
    with_ray = {str(p.relative_to(ROOT)) for p in modules("app") if "ray" in tops(p)}
    assert "app/ray.py" in with_ray


@pytest.mark.parametrize(
    "what", ["app.main", "app.cli.score", "app.bulk.parts.run", "app.bulk.ray"]
)
def test_nothing_imports_ray_before_somebody_wants_it(what: str) -> None:
    code = f"import sys, {what}; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_worker_starts_before_anything_but_the_command_line_is_imported() -> None:
    code = (
        "import sys; sys.argv = ['agiqa', 'serve']; import app.cli.main, app.cli.serve; "
        "import app.device.launch; "
        "slow = ('pydantic', 'fastapi', 'numpy', 'uvicorn', 'asyncio'); "
        "print([m for m in slow if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_api_process_has_no_decoder_of_images() -> None:
    code = "import sys, app.main; print([m for m in sys.modules if m.partition('.')[0] == 'PIL'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
