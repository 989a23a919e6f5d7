"""Every command of the documentation is run here, or says what it needs.

Commands run in a folder with the files that the pages speak of, and beside a running service. Of
those that need something else, the options are checked.
"""

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from app.cli.main import main
from tests.app.pictures import picture
from tests.app.server import AUTO, Running, serving
from tests.documents import LANGUAGES, NEEDS, ROOT, Block, Command, blocks, commands, pages
from tests.figures import AGIQA_3K, LIVE_CHALLENGE, assert_printed

# The images that the pages show figures of; elsewhere others stand in, and only keys are compared.
SHOWN = {
    "photo.jpg": LIVE_CHALLENGE / "Images" / "10.jpg",
    "generated.jpg": AGIQA_3K / "img" / "sd1.5_normal_001.jpg",
}
PROMPTS = ("a tray of sushi", "a red fox", "a lighthouse at night")
# `agiqa serve` would run for ever: it is started, and ended as soon as it says where its page is.
# Targets of make build environments: what they would run is printed, which fails for unknown ones.
AGIQA = f"""#!{sys.executable}
import signal, subprocess, sys
real = [sys.executable, "-m", "app.cli.main", *sys.argv[1:]]
if sys.argv[1:2] != ["serve"]:
    sys.exit(subprocess.call(real))
with subprocess.Popen([*real, "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
    greeted = any("the page is at" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    process.stderr.read()
sys.exit(process.returncode if greeted else 1)
"""
MAKE = f"""#!/bin/sh
exec {shutil.which("make")} -C {ROOT} --dry-run "$@"
"""
PYTHON = f"""#!/bin/sh
exec {sys.executable} "$@"
"""
SHELL = [block for page in pages() for block in blocks(page)]
PAGES = {str(p.relative_to(ROOT)): p for p in pages() if blocks(p)}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with the default models, as the pages assume it on port 8000."""
    models = {"AGIQA_MODELS": "tiny-mpiqe,tiny-clip-agiqa"}
    with serving(tmp_path_factory.mktemp("service"), AUTO | models) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the commands of a page run."""
    for name, real in SHOWN.items():
        if real.is_file():
            shutil.copyfile(real, tmp_path / name)
        else:
            picture(seed=len(name)).save(tmp_path / name)
    shutil.copyfile(ROOT / "app/static/assets/cat.webp", tmp_path / "cat.webp")
    (tmp_path / "images").mkdir()
    rows = [("image", "prompt")]
    for i, prompt in enumerate(PROMPTS):
        picture(seed=3 + i).save(tmp_path / "images" / f"{i}.jpg")
        (tmp_path / "images" / f"{i}.txt").write_text(prompt)
        rows.append((f"{i}.jpg", prompt))
    with (tmp_path / "prompts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (tmp_path / "Makefile").write_text("no image\n")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("agiqa", AGIQA), ("make", MAKE), ("python", PYTHON)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return tmp_path


def run(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AGIQA_")}
    found = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    paths = {"PATH": found, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'docs' / 'examples'}"}
    return subprocess.run(
        command,
        cwd=folder,
        env=kept | paths | {"AGIQA_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def here(text: str, service: Running) -> str:
    """The text with the address of the service under test."""
    own = service.url.removeprefix("http://")
    return re.sub(r"(localhost|127\.0\.0\.1):8000", own, text)


def assert_as_shown(command: Command, printed: str, block: Block) -> None:
    """Keys of JSON, the first words of other lines, and figures within what the dtypes differ, are
    in what the command really printed.
    """
    for line in command.shown:
        start = line.split()[0] if line.split() else "..."
        if start.startswith("..."):
            continue
        if re.match(r'[{\s"]', line):
            for key in re.findall(r'"[\w-]+":', line):
                assert key in printed, f"{block}: {key} was not printed by {command.text}"
        else:
            assert start in printed, f"{block}: {start!r} was not printed by {command.text}"
    if all(real.is_file() for name, real in SHOWN.items() if name in command.text):
        assert_printed("\n".join(command.shown), printed)


@pytest.mark.figures
@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl: apt-get install curl")
@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_run_as_they_stand(
    name: str, service: Running, folder: Path
) -> None:
    python = ""
    for block in blocks(PAGES[name]):
        if block.needs:
            continue
        if block.language == "python":
            python += block.text
        if block.language not in {"bash", "console"}:
            continue
        for command in commands(block):
            script = here(command.text, service)
            done = run(["bash", "-euo", "pipefail", "-c", script], folder)
            assert done.returncode == 0, f"{block}\n{script}\n{done.stdout}{done.stderr}"
            assert_as_shown(command, done.stdout + done.stderr, block)
    if python:
        done = run([sys.executable, "-W", "error", "-c", here(python, service)], folder)
        assert done.returncode == 0, f"the Python of {name}\n{done.stderr}"


def test_every_block_names_its_language_and_what_it_needs_is_one_of_few_things() -> None:
    for block in SHELL:
        assert block.language in LANGUAGES, f"{block}: {block.language!r}"
        if block.needs:
            assert block.needs.startswith(NEEDS), f"{block} needs {block.needs}"
        if block.language == "python":
            compile(block.text, str(block), "exec")


def test_the_options_of_commands_that_cannot_be_run_here_exist() -> None:
    checked = 0
    for block in SHELL:
        if not block.needs or block.language not in {"bash", "console"}:
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            if line.startswith("agiqa "):
                assert_parses(shlex.split(line, comments=True)[1:], block)
                checked += 1
    assert checked > 20


def assert_parses(arguments: list[str], block: Block) -> None:
    """The options are ones that the command has; values and files are not looked at."""
    command: click.Command = main
    context = click.Context(main, info_name="agiqa")
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments[0])
        assert found, f"{block}: agiqa has no command {arguments[0]!r}"
        command, arguments = found, arguments[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    try:
        command.make_parser(context).parse_args(arguments)
    except click.UsageError as error:
        raise AssertionError(f"{block}: {error.message}") from error
