"""The command line as a whole; ``agiqa score`` has tests of its own."""

import subprocess
import sys
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
