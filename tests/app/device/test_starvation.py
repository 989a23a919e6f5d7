import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.device.starvation import Starvation

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the figures")

_BUSY = "while True: pass"


@pytest.fixture
def rivals() -> Iterator[list[int]]:
    """Three processes that want the same core."""
    core = {min(os.sched_getaffinity(0))}
    with ExitStack() as stack:
        children = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", _BUSY])) for _ in range(3)
        ]
        for child in children:
            stack.callback(child.kill)
            os.sched_setaffinity(child.pid, core)
        yield [child.pid for child in children]


def test_a_process_that_shares_its_core_is_starved_until_it_is_stopped(rivals: list[int]) -> None:
    starvation = Starvation(rivals[0])
    waited, end = 0.0, time.monotonic() + 60
    while waited < 0.2:
        waited += starvation.seconds()
        time.sleep(0.01)
        assert time.monotonic() < end
    os.kill(rivals[0], signal.SIGSTOP)
    while state(rivals[0]) != "T":
        time.sleep(0.01)
        assert time.monotonic() < end
    starvation.seconds()
    time.sleep(0.1)  # in which its rivals run
    assert starvation.seconds() == 0


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_what_nobody_wanted_to_know_is_forgotten(rivals: list[int]) -> None:
    starvation = Starvation(rivals[0])
    end = time.monotonic() + 60
    while starvation.seconds() == 0:
        time.sleep(0.05)
        assert time.monotonic() < end
    assert starvation.seconds(wanted=False) == 0
    time.sleep(0.1)
    assert starvation.seconds() == 0


def test_a_process_that_is_gone_is_not_starved() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert Starvation(child.pid).seconds() == 0
