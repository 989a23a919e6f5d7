"""The command line as a whole; ``agiqa score`` has tests of its own."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.main import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--config", "nowhere.toml"], "no settings file"),
        (["train", "nothing"], "no recipe 'nothing'"),
    ],
    ids=["config", "recipe"],
)
def test_a_mistake_is_one_clear_sentence(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


class _Begun:
    """In place of a first worker: keeps what it is started with."""

    variables: Mapping[str, str]

    def __init__(self, variables: Mapping[str, str]) -> None:
        _Begun.variables = variables

    def close(self) -> None:
        """Nothing was started."""


@pytest.mark.parametrize(("options", "spins"), [([], "10000"), (["--workers", "1"], "1000")])
def test_the_first_worker_is_started_for_the_workers_that_are_set(
    options: list[str], spins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORKERS", "THREADS", "DEVICE", "CONFIG"):
        monkeypatch.delenv(f"AGIQA_{name}", raising=False)
    monkeypatch.setattr("app.device.launch.EarlyWorker", _Begun)
    monkeypatch.setattr("app.main.serve", lambda _settings, _early: 0)
    monkeypatch.setattr("model.resources.usable_cores", lambda: 2)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert run("serve", *options).exit_code == 0
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert _Begun.variables["GOMP_SPINCOUNT"] == spins


def test_the_commands_of_the_training_package_join() -> None:
    output = run("--help").output
    own = ("serve", "key", "score", "models", "push", "seal", "assemble", "import-official")
    for command in (*own, "train", "evaluate"):
        assert command in output


@pytest.mark.parametrize("command", ["assemble", "score"])
def test_help_comes_without_torch(command: str) -> None:
    code = (
        "import sys, click.testing, app.cli.main; "
        f"result = click.testing.CliRunner().invoke(app.cli.main.main, ['{command}', '--help']); "
        "print(result.exit_code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]
