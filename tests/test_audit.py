"""``make audit`` with tools that only pretend: what is known, unknown, and not allowed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOUND = "Found 1 known vulnerability in 1 package\nName Version ID\npillow 11.0 CVE-1"
UNKNOWN = "ERROR: pillow: Dependency not found on PyPI and could not be audited"
GPL = "license GPL-3.0 not in allow-only licenses was found for package readline"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/audit", tmp_path / ".ci")
    (tmp_path / "constraints.txt").write_text("# tested together\npillow==13.0.0\n")
    return tmp_path


def audit(
    checkout: Path, vulnerabilities: tuple[int, str] = (0, ""), licences: tuple[int, str] = (0, "")
) -> subprocess.CompletedProcess[str]:
    tools = checkout / "build/audit/bin"
    tools.mkdir(parents=True)
    for name, (status, text) in {"pip-audit": vulnerabilities, "pip-licenses": licences}.items():
        (tools / name).write_text(f"#!/bin/sh\ncat <<'END' >&2\n{text}\nEND\nexit {status}\n")
        (tools / name).chmod(0o755)
    return subprocess.run(
        [checkout / ".ci/audit"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_known_is_told(checkout: Path) -> None:
    done = audit(checkout)
    assert done.returncode == 0
    assert "vulnerabilities: none known of 1 pins" in done.stdout


def test_a_known_vulnerability_is_named(checkout: Path) -> None:
    done = audit(checkout, (1, FOUND))
    assert done.returncode == 1
    assert "CVE-1" in done.stderr


def test_a_database_that_cannot_be_asked_is_no_clean_bill(checkout: Path) -> None:
    done = audit(checkout, (1, UNKNOWN))
    assert done.returncode == 2
    assert "can't be asked from here" in done.stderr
    assert "none known" not in done.stdout


def test_a_licence_that_is_not_allowed_ends_it(checkout: Path) -> None:
    done = audit(checkout, licences=(1, GPL))
    assert done.returncode == 1
    assert "readline" in done.stderr
