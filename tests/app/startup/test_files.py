"""The limit on open files, in a process of its own."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
from app.startup.files import most_connections
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(most_connections(wanted), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def possible(soft: int, hard: int, wanted: int) -> tuple[list[int], str]:
    command = [sys.executable, "-c", CODE, *map(str, (soft, hard, wanted))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [int(number) for number in done.stdout.split()], done.stderr


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "most", "raised"),
    [
        (200, 1000, 500, 500, 628),
        (200, 1000, 5000, 872, 1000),
        (200, 200, 1000, 72, 200),
        (100, 100, 1000, 1, 100),
        (900, 1000, 500, 500, 900),
    ],
)
def test_the_limit_on_open_files_is_raised_as_far_as_needed_and_connections_stay_below_it(
    soft: int, hard: int, wanted: int, most: int, raised: int
) -> None:
    numbers, log = possible(soft, hard, wanted)
    assert numbers == [most, raised, hard]
    assert ("AGIQA_MAX_CONNECTIONS" in log) == (most < wanted)
