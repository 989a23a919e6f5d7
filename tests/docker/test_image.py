import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import click
import pytest

from app.cli.main import main
from app.settings import PREFIX, Settings

from .dockerfile import ROOT, Instruction, copied, instructions, only

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LAST_STAGE = max(i.stage for i in instructions())


@pytest.mark.parametrize("source", copied())
def test_what_the_image_copies_exists(source: str) -> None:
    assert (ROOT / source).exists()


def test_all_that_the_package_is_built_from_is_copied() -> None:
    project = PROJECT["project"]
    packages = {name.partition(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
    modules = {f"{name}.py" for name in PROJECT["tool"]["setuptools"]["py-modules"]}
    needed = {"pyproject.toml", project["readme"], *project["license-files"], *packages, *modules}
    assert needed <= set(copied())


def test_the_build_context_holds_what_is_copied_and_nothing_else() -> None:
    patterns = _ignore_patterns()
    assert patterns[0] == "*"
    assert {p[1:] for p in patterns if p.startswith("!")} == set(copied())
    assert not any(_is_ignored(source) for source in copied())


@pytest.mark.parametrize(
    "path",
    [
        ".git/HEAD",
        ".venv/bin/python",
        ".env",
        "tests/test_x.py",
        "runs/1/model.safetensors",
        "docs/index.md",
        "app/__pycache__/cli.cpython-312.pyc",
        "model/.cache/x",
        "training/runs/1/model.safetensors",
    ],
)
def test_the_build_context_leaves_out(path: str) -> None:
    assert _is_ignored(path)


def _ignore_patterns() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _is_ignored(path: str) -> bool:
    parts = path.split("/")
    ignored = False
    for pattern in _ignore_patterns():
        bare = pattern.removeprefix("!")
        anywhere = bare.startswith("**/")
        hit = (
            any(fnmatch(part, bare.removeprefix("**/")) for part in parts)
            if anywhere
            else fnmatch(parts[0], bare)
        )
        if hit:
            ignored = not pattern.startswith("!")
    return ignored


def test_all_stages_stand_on_the_base_that_the_build_argument_names() -> None:
    assert only("ARG", "BASE_IMAGE") == Instruction(
        -1, "ARG", "BASE_IMAGE=python:3.12-slim-bookworm"
    )
    bases = [i.rest.split()[0] for i in instructions() if i.verb == "FROM"]
    assert set(bases) == {"${BASE_IMAGE}"}


def test_the_service_runs_as_a_numbered_user_that_is_not_root() -> None:
    last = [i for i in instructions() if i.verb == "USER"][-1]
    user, _, group = last.rest.partition(":")
    assert last.stage == LAST_STAGE
    assert int(user) > 0
    assert int(group) > 0


def test_the_image_starts_a_command_that_exists_on_an_address_that_is_reached() -> None:
    (script,) = json.loads(only("ENTRYPOINT").rest)
    (command,) = json.loads(only("CMD").rest)
    assert script in PROJECT["project"]["scripts"]
    assert command in main.list_commands(click.Context(main))
    assert only("EXPOSE").rest == str(Settings.model_fields["port"].default)
    assert "AGIQA_HOST=0.0.0.0" in only("ENV", "AGIQA_HOST").rest.split()


def test_the_image_sets_only_settings_that_the_service_knows() -> None:
    text = "".join(i.rest for i in instructions() if i.verb == "ENV")
    names = set(re.findall(rf"\b{PREFIX}(\w+)=", text))
    assert names <= {name.upper() for name in Settings.model_fields}


def test_torch_and_torchvision_come_by_one_command_from_one_index(tmp_path: Path) -> None:
    index = "https://example.org/whl/cpu"
    assert _run_torch_step(tmp_path, index) == [
        f"install --no-deps --index-url {index} --requirement torch.txt"
    ]
    wanted = (tmp_path / "torch.txt").read_text().splitlines()
    assert wanted == ["torch==9.8.7", "torchvision==6.5.4"]


def test_torch_comes_from_the_default_index_if_none_is_named(tmp_path: Path) -> None:
    assert _run_torch_step(tmp_path, "") == ["install --no-deps --requirement torch.txt"]


def _run_torch_step(folder: Path, index: str) -> list[str]:
    (folder / "constraints.txt").write_text(
        "numpy==2.0.0\ntorch==9.8.7\ntorchmetrics==1.0\ntorchvision==6.5.4\n"
    )
    return _run_step(only("RUN", "TORCH_INDEX").shell, folder, TORCH_INDEX=index)


def test_the_rest_comes_constrained_and_with_what_scoring_needs(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    assert not _run_step(only("RUN", "tomllib").shell, tmp_path)
    wanted = (tmp_path / "dependencies.txt").read_text().splitlines()
    project = PROJECT["project"]
    assert wanted == project["dependencies"] + project["optional-dependencies"]["score"]
    install = only("RUN", "--requirement dependencies.txt")
    assert (
        install.shell == "pip install --constraint constraints.txt --requirement dependencies.txt"
    )


def _run_step(command: str, folder: Path, **environment: str) -> list[str]:
    """Runs a step of the build in a folder, with a pip that only writes down how it was called."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    pip = programs / "pip"
    calls = folder / "calls"
    calls.touch()
    pip.write_text(f'#!/bin/sh\necho "$*" >> {calls}\n')
    pip.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    subprocess.run(
        ["sh", "-ec", command], cwd=folder, env={"PATH": path, **environment}, check=True
    )
    return calls.read_text().splitlines()


@pytest.mark.parametrize("package", ["torch", "torchvision"])
def test_the_constraints_pin_a_version_that_every_index_has(package: str) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    (pin,) = [line for line in lines if line.startswith(f"{package}==")]
    assert re.fullmatch(r"\w+==\d+\.\d+\.\d+", pin)


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_asks_livez(status: int, healthy: bool) -> None:
    asked: list[str] = []
    with _answering(status, asked) as port:
        assert (_health_check(port) == 0) is healthy
    assert asked == ["/livez"]


def test_the_health_check_fails_if_nothing_listens() -> None:
    with _answering(200, []) as port:
        pass
    assert _health_check(port) != 0


def _health_check(port: int) -> int:
    program, *arguments = json.loads(only("HEALTHCHECK").rest.partition("CMD ")[2])
    assert program == "python"
    # A container may have a proxy for the world outside.
    environment = {"AGIQA_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, check=False
    ).returncode


@contextmanager
def _answering(status: int, asked: list[str]) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()
