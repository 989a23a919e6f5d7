"""``agiqa score`` and the service where the packages of the extra ``score`` are not installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.pictures import encoded

WITHOUT = """
import sys
sys.modules |= dict.fromkeys(("jinja2", "pyarrow"))
import app.main
from app.cli.main import main
main(sys.argv[1:])
"""


def without_extras(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_scores_are_written_as_csv(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    out = tmp_path / "scores.csv"
    done = without_extras("score", tmp_path, "-o", out, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert len(out.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("option", "file", "package"),
    [("-o", "scores.parquet", "pyarrow"), ("--report", "report.html", "Jinja")],
)
def test_what_needs_a_missing_package_is_refused_first_with_the_command_that_installs_it(
    tmp_path: Path, option: str, file: str, package: str
) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    refused = without_extras("score", tmp_path, option, tmp_path / file)
    assert refused.returncode not in (0, 3)
    assert package in refused.stderr
    assert "pip install 'agiqa[score]'" in refused.stderr
    assert refused.stdout == ""
    assert not (tmp_path / file).exists()
