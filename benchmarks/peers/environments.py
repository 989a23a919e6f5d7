"""A venv for each rival, which sees what is installed beside agiqa: torch is there once."""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
_INSTALLED = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"


class NotMeasured(Exception):
    """A server could not be installed, started or measured, and why, in a line."""


def interpreter(folder: Path, requirement: str) -> Path:
    """Python of the venv ``folder``, which is made where it is not there, with ``requirement``, a
    package and its version (``name==1.0``), installed where it is not; this one, if it is empty.

    Raises:
        NotMeasured: pip can't install it.
    """
    if not requirement:
        return Path(sys.executable)
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Behind its own packages, which so come first.
    borrowed = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
    (packages / "beside.pth").write_text("\n".join([*borrowed, str(ROOT)]) + "\n")
    name, _, version = requirement.partition("==")
    command = [str(python), "-c", _INSTALLED, name.partition("[")[0]]
    if subprocess.run(command, capture_output=True, text=True).stdout.strip() != version:
        _install(python, requirement)
    return python


def _install(python: Path, requirement: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, requirement], capture_output=True, text=True)
    if done.returncode:
        raise NotMeasured(last_line(done.stderr) or f"pip ends with {done.returncode}")


def last_line(text: str) -> str:
    """The last that is not empty: where programs put what went wrong."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
