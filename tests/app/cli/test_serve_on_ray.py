"""``agiqa serve --ray`` where the extra is not installed."""

import subprocess
import sys


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['ray'] = None; from app.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "--ray"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == "Error: Ray Serve needs the package ray: pip install 'agiqa[ray]'\n"
