"""``agiqa serve --print-config``: the settings in effect, and where they come from."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from app import settings
from app.cli.configuration import as_toml
from app.cli.main import main
from app.settings import Settings, load_settings, origins


def printed(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["serve", "--print-config", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def origin(output: str, name: str) -> str:
    (line,) = [one for one in output.splitlines() if one.removeprefix("# ").startswith(name)]
    return line.rpartition("  # ")[2]


def test_each_setting_is_printed_with_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "agiqa.toml"
    file.write_text("port = 1\ndeadline_seconds = 3.5\n")
    monkeypatch.setenv("AGIQA_PORT", "2")
    output = printed("--host", "::1", "--config", file)
    assert origin(output, "host = ") == "flag"
    assert origin(output, "port = 2") == "environment"
    assert origin(output, "deadline_seconds = 3.5") == "file"
    assert origin(output, "max_rows = ") == "default"
    assert origin(output, "decode_workers = ") == "derived from the usable cores and memory"
    assert origin(output, "threads: none") == "default"
    for name in Settings.model_fields:
        assert f"{name} = " in output or f"# {name}: " in output


def test_what_is_printed_can_be_read_back(tmp_path: Path) -> None:
    flags = {
        "models": ('a "quoted" \\ näme\x7f', "two"),
        "threads": 3,
        "load_seconds": float("inf"),
    }
    loaded = load_settings(flags)
    file = tmp_path / "printed.toml"
    file.write_text(as_toml(loaded, origins(flags)))
    assert load_settings({}, file) == loaded


def test_no_key_is_printed_but_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGIQA_API_KEYS", "first-secret,second-secret")
    output = printed()
    assert "# api_keys: 2, not shown  # environment" in output
    assert "# admin_keys: none  # default" in output
    assert "secret" not in output


def test_the_former_name_of_a_setting_is_where_the_present_one_comes_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGIQA_DECODE_THREADS", "3")
    monkeypatch.setattr(settings, "usable_cores", lambda: 64)
    output = printed()
    assert origin(output, "decode_workers = 3") == "environment"


def test_a_mistake_is_a_sentence_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGIQA_PORT", "many")
    result = CliRunner().invoke(main, ["serve", "--print-config"])
    assert result.exit_code == 1
    assert "port: " in result.output


def test_nothing_is_loaded_for_it() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from app.cli.main import main; "
        "result = CliRunner().invoke(main, ['serve', '--print-config']); "
        "print(result.exit_code, {'torch', 'fastapi', 'uvicorn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["0", "set()\n"]
