import os
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from app.device.lifeline import Heartbeat
from app.device.messages import Beat

# A parent that starts a child, prints its pid, and waits to be killed. The child is stopped, so
# that it can't notice anything by itself.
_PARENT = """
import os, signal, subprocess, sys
command = [sys.executable, "-c", sys.argv[1], str(os.getpid())]
child = subprocess.Popen(command, stdout=subprocess.PIPE)
child.stdout.readline()
os.kill(child.pid, signal.SIGSTOP)
print(child.pid, flush=True)
signal.pause()
"""
_CHILD = """
import signal, sys
from app.device.lifeline import die_with
die_with(int(sys.argv[1]))
print("tied", flush=True)
signal.pause()
"""


def ends() -> tuple["Connection[Any, Any]", "Connection[Any, Any]"]:
    ours, theirs = socket.socketpair()
    return Connection(ours.detach()), Connection(theirs.detach())


def test_it_beats_and_names_the_batch_while_the_main_thread_is_busy() -> None:
    ours, theirs = ends()
    gone = threading.Event()
    with ours:
        heartbeat = Heartbeat(theirs, gone.set)
        heartbeat.start()
        assert ours.recv() == Beat()
        with heartbeat.computing(7):
            beats = [ours.recv() for _ in range(2)]
        assert Beat(7) in beats
        assert set(beats) <= {Beat(), Beat(7)}
    assert gone.wait(30)  # it notices that nobody listens any more
    theirs.close()


def test_steps_are_sent_at_once_and_repeated_by_the_beats() -> None:
    ours, theirs = ends()
    with ours, theirs:
        heartbeat = Heartbeat(theirs)  # not started: nothing beats
        with heartbeat.computing(3):
            heartbeat.step(0.5)
            heartbeat.step(1.5)
        assert [ours.recv(), ours.recv()] == [Beat(3, 1, 0.5), Beat(3, 2, 1.5)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_a_child_dies_with_a_parent_that_is_killed_even_if_it_is_stopped() -> None:
    command = [sys.executable, "-c", _PARENT, _CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    end = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """A zombie that nobody has reaped counts as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_child_whose_parent_is_gone_already_does_not_begin() -> None:
    code = "import sys; from app.device.lifeline import die_with; die_with(1); sys.exit(9)"
    assert os.getpid() != 1
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
