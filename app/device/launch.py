"""How the worker's process is started, and one that starts before anything else.

What the worker imports takes longer than all that the API process does until it is there. So the
command line begins with the worker, and hands its process to the supervisor later. That one leaves
a copy of itself behind, from which the workers after it are forked (``app.device.template``).
Imports the standard library alone.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from app.device.template import Template, leave_template

COMMAND = (sys.executable, "-P", "-m", "app.worker")  # -P: our own app, wherever we are started

# Threads of the network that wait for each other sleep soon. By default GNU's OpenMP spins for some
# milliseconds, and beside one busy process those it waits for are often not even running: on two
# cores that took three quarters of the speed (benchmarks/neighbours.py).
# And oneDNN keeps what it compiled for the latest 1024 shapes: prompts and batches of all lengths
# filled over a gigabyte in ten minutes (`make soak`). 256 are enough for the bundled models' stem,
# which has 45 shapes for each of three numbers of rows: with 64 it was compiled again and again.
VARIABLES = {
    "GOMP_SPINCOUNT": "1000",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",
    "LRU_CACHE_CAPACITY": "256",
    # NumPy's: nothing here multiplies by it, and a process with threads can't be forked.
    "OPENBLAS_NUM_THREADS": "1",
}
# Of workers that compute in one thread each, and in several only on cores that idle ones lend: they
# spin for longer, since where that does not help, none are lent (app.batching.lending). See
# docs/decisions/17-cores-lent-while-that-helps.md.
_BORROWED = VARIABLES | {"GOMP_SPINCOUNT": "10000"}
# Up to so many cores a worker has one for itself where their number is measured (model.core_share).
_MOST_OF_ONE_CORE = 8
_LENDING = frozenset({"auto", "cpu"})  # devices


def variables_for(given: Mapping[str, object], cores: int) -> Mapping[str, str]:
    """Of the first worker, before the settings are read: by what is ``given`` on the command line,
    or else the environment. Where that says how many workers or threads there are, or a file might,
    none may be lent.
    """

    def is_set(name: str) -> bool:
        return bool(given.get(name) or os.environ.get(f"AGIQA_{name.upper()}"))

    device = given.get("device") or os.environ.get("AGIQA_DEVICE") or "auto"
    is_known = any(map(is_set, ("workers", "threads", "config"))) or device not in _LENDING
    return VARIABLES if is_known or cores > _MOST_OF_ONE_CORE else _BORROWED


class EarlyWorker:
    """A worker that imports what it needs while it waits for its descriptors. One alone: each takes
    a core, and what the API process imports takes another.
    """

    def __init__(
        self, command: Sequence[str] = COMMAND, variables: Mapping[str, str] = VARIABLES
    ) -> None:
        """Starts it, with ``variables`` where the environment does not set them; on the thread that
        is to be its parent.

        Raises:
            OSError: no process or descriptor can be had.
        """
        self.started = time.monotonic()
        self.variables = variables
        self.template = Template()
        self._socket, theirs = socket.socketpair()
        with theirs, self.template.begin() as end:
            ends = (theirs.fileno(), end.fileno())
            flags = ("--early", str(ends[0]), "--template", str(ends[1]))
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                [*command, *flags, "--parent", str(os.getpid())],
                pass_fds=ends,
                env={**variables, **os.environ},
            )

    @property
    def is_taken(self) -> bool:
        """Whether somebody has its process, or it has ended."""
        return self._process is None or self._process.poll() is not None

    def take(self, descriptors: Sequence[int]) -> "subprocess.Popen[bytes] | None":
        """Its process, which gets the descriptors and belongs to the caller from now on; None where
        it was taken before, or has ended.
        """
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return None
        with self._socket:
            try:
                socket.send_fds(self._socket, [b"."], descriptors)
            except OSError:  # it ends just now
                _end(process)
                return None
        return process

    def close(self) -> None:
        """Ends it, unless it was taken; no more are forked."""
        process, self._process = self._process, None
        self._socket.close()
        self.template.close()
        if process is not None:
            _end(process)


def receive_descriptors(early: int, template: int) -> tuple[int, int]:
    """The early worker's side, once it has imported what it needs: leaves its template behind, and
    waits for the pipe and the shared memory. Returns in each worker that is forked later, too.

    Args:
        early: the descriptor that it was started with.
        template: the other one, by which workers are ordered.

    Raises:
        EOFError: nobody wants it any more.
    """
    if forked := leave_template(template, early):
        return forked
    with socket.socket(fileno=early) as end:
        _, descriptors, _, _ = socket.recv_fds(end, 1, 2)
    if len(descriptors) != 2:
        raise EOFError("no descriptors came")
    return descriptors[0], descriptors[1]


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()
