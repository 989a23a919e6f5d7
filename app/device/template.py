"""Workers that are forked from a process that has imported what they need: they share its memory as
long as they don't write to it, 300 MB each, and start without the second that importing takes.

The process is a copy of the first worker, made before that has a thread or has computed anything: a
thread that is not there in the copy may hold a lock, and OpenMP would wait for its own. It does
nothing but fork. What it forks belongs to the API process, which is made the reaper of what its
descendants leave behind: it waits for them as for its own, and they die with it. Linux only;
elsewhere, and where anything is amiss, workers are started as new processes. Imports the standard
library alone.
"""

import contextlib
import ctypes
import gc
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
# What the system calls the process: it has the worker's command line, and computes nothing.
TEMPLATE_NAME = "agiqa-template"
_PID = struct.Struct("<i")
_READY = b"r"
# Seconds for one fork; it takes some milliseconds.
_FORK_SECONDS = 5.0
_TICK = 0.05


class Template:
    """The API process's side."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._ready = False

    def begin(self) -> socket.socket:
        """The end that the first worker is to inherit; for once."""
        self._socket, theirs = socket.socketpair()
        if not _reaps_descendants():
            self.close()
        return theirs

    def look(self) -> bool | None:
        """Whether workers can be forked; None: not yet, the first one still imports."""
        if self._socket is None:
            return False
        try:
            self._ready = self._ready or self._socket.recv(1, socket.MSG_DONTWAIT) == _READY
        except BlockingIOError:
            return None
        except OSError:
            self._ready = False
        if not self._ready:  # it has closed its end
            self.close()
        return self._ready

    def fork(self, descriptors: Sequence[int]) -> "Forked | None":
        """A worker that has these descriptors; None where none can be forked.

        Raises:
            OSError: there is no answer; it is not to be asked again.
        """
        if not self.look() or self._socket is None:
            return None
        try:
            socket.send_fds(self._socket, [_PID.pack(os.getpid())], descriptors)
        except OSError:  # it has ended: nobody has the descriptors
            self.close()
            return None
        try:
            self._socket.settimeout(_FORK_SECONDS)
            (pid,) = _PID.unpack(self._socket.recv(_PID.size))
        except (OSError, struct.error) as error:
            self.close()
            raise OSError("no worker was forked") from error
        return Forked(pid)

    def close(self) -> None:
        """Ends the process; what it has forked lives on."""
        self._ready = False
        if self._socket:
            self._socket.close()
            self._socket = None


class Forked:
    """A forked worker, as ``subprocess.Popen`` shows its own."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lock = threading.Lock()  # whoever has it may be sure that the pid is ours

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        with self._lock:
            if self.returncode is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:  # somebody else has waited for it, as Popen says it
                    pid, status = self.pid, 0
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end, and returns its exit code.

        Raises:
            subprocess.TimeoutExpired: it lives on.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is None:
                with contextlib.suppress(ChildProcessError):
                    os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            elif time.monotonic() > end:
                raise subprocess.TimeoutExpired("a forked worker", timeout or 0.0)
            else:
                time.sleep(_TICK)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing happens where it has ended."""
        if self.poll() is None:
            with self._lock:
                if self.returncode is None:
                    os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it, whatever it is at."""
        self.send_signal(signal.SIGKILL)


def leave_template(template: int, early: int) -> tuple[int, int] | None:
    """Run by the first worker once it has imported what it needs. Returns None there, and in each
    worker that is forked later its pipe and its shared memory.

    Args:
        template: the descriptor by which workers are ordered.
        early: the first worker's own.
    """
    end = socket.socket(fileno=template)
    if not _has_one_thread():
        end.close()
        return None
    gc.freeze()  # the collector would write to each object's page, and have it copied
    if os.fork():
        end.close()
        return None
    os.close(early)
    own = Path("/proc/self/comm").read_text().strip()
    _control(_PR_SET_NAME, TEMPLATE_NAME.encode())
    try:
        descriptors = _fork_on_order(end)
    except OSError:  # the API process is gone
        os._exit(0)
    _control(_PR_SET_NAME, own.encode())
    return descriptors


def _fork_on_order(end: socket.socket) -> tuple[int, int]:
    """Forks until the other side closes, and then ends; returns in what it forks."""
    end.sendall(_READY)
    while True:
        order, descriptors, _, _ = socket.recv_fds(end, _PID.size, 2)
        if len(descriptors) != 2:
            os._exit(0)
        pids, theirs = os.pipe()
        between = os.fork()
        if not between:
            # A child of one that ends: the API process inherits it.
            worker = os.fork()
            if worker:
                os.write(theirs, _PID.pack(worker))
                os._exit(0)
            for unwanted in (pids, theirs):
                os.close(unwanted)
            end.close()
            _belong_to(*_PID.unpack(order))
            return descriptors[0], descriptors[1]
        os.close(theirs)
        os.waitpid(between, 0)
        if not (pid := os.read(pids, _PID.size)):  # there was no memory for one more
            os._exit(0)
        end.sendall(pid)
        for used in (pids, *descriptors):
            os.close(used)


def _belong_to(parent: int) -> None:
    """Waits until that process has inherited this one, and dies with it from then on."""
    end = time.monotonic() + _FORK_SECONDS
    while os.getppid() != parent and time.monotonic() < end:
        time.sleep(0.001)
    from app.device.lifeline import die_with  # the worker has it; the command line need not

    die_with(parent)


def _has_one_thread() -> bool:
    try:
        return len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:
        return False


def _reaps_descendants() -> bool:
    """Makes this process the parent of what its descendants leave behind, if it can."""
    return sys.platform == "linux" and _control(_PR_SET_CHILD_SUBREAPER, 1)


def _control(what: int, value: int | bytes) -> bool:
    """Linux's prctl; whether it has worked."""
    return bool(ctypes.CDLL(None, use_errno=True).prctl(what, value, 0, 0, 0) == 0)
