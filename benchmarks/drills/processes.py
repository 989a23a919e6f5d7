"""The service's processes, as /proc shows them: who is who, and what memory all hold together."""

import contextlib
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from app.device.template import TEMPLATE_NAME

_PROC = Path("/proc")
# The module that a process runs -> what the drills call it.
_ROLES = {"app.worker": "device", "model.decoding.process": "decoder"}
_SAMPLE_SECONDS = 0.05


def tree(pid: int) -> list[int]:
    """The process and its descendants; those that have ended meanwhile are left out."""
    found = [pid]
    for parent in found:  # grows as it goes
        with contextlib.suppress(OSError):
            for task in (_PROC / str(parent) / "task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def role(pid: int) -> str:
    """``device``, ``decoder``, ``template`` or ``other``."""
    with contextlib.suppress(OSError):
        if (_PROC / str(pid) / "comm").read_text().strip() == TEMPLATE_NAME:
            return "template"
        arguments = (_PROC / str(pid) / "cmdline").read_bytes().decode().split("\0")
        for module, name in _ROLES.items():
            if module in arguments:
                return name
    return "other"


def by_role(pid: int, name: str) -> list[int]:
    """Descendants that run as ``name``; the dead that nobody has waited for are left out."""
    return [child for child in tree(pid)[1:] if role(child) == name and is_alive(child)]


def is_alive(pid: int) -> bool:
    """Whether it exists, and is no zombie."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in {"Z", "X"}


def pss(pid: int) -> int:
    """Bytes of memory, shared pages by their share; 0 where it has ended."""
    return _memory(pid, "Pss:")


def resident(pid: int) -> int:
    """The same, but pages of files count whole: their share grows whenever another process ends
    that has the same libraries open.
    """
    shared = _memory(pid, "Pss_Anon:", "Pss_Shmem:")
    return shared + _memory(pid, "RssFile:", file="status")


def _memory(pid: int, *kinds: str, file: str = "smaps_rollup") -> int:
    with contextlib.suppress(OSError):
        lines = (_PROC / str(pid) / file).read_text().splitlines()
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(kinds))
    return 0


def threads(pid: int) -> int:
    """0 where it has ended."""
    return _entries(pid, "task")


def open_files(pid: int) -> int:
    """Sockets and pipes too; 0 where it has ended."""
    return _entries(pid, "fd")


def _entries(pid: int, folder: str) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(_PROC / str(pid) / folder))
    return 0


def tree_pss(pid: int) -> int:
    return sum(map(pss, tree(pid)))


def kill_tree(pid: int) -> None:
    """Ends the process and all below it, the stopped ones too."""
    for each in tree(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


class MemoryWatch:
    """Samples the memory of a process tree in a thread, and ends the tree over ``cap`` bytes: the
    machine belongs to others too.
    """

    def __init__(self, pid: int, cap: int) -> None:
        self.peak = 0
        self.capped = False
        self._pid = pid
        self._cap = cap
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, tree_pss(self._pid))
            if self.peak > self._cap:
                self.capped = True
                kill_tree(self._pid)
                return


def wait_for(what: Callable[[], object], seconds: float, step: float = 0.02) -> float | None:
    """Seconds until ``what()`` was true, or None."""
    start = time.monotonic()
    while not what():
        if time.monotonic() - start > seconds:
            return None
        time.sleep(step)
    return time.monotonic() - start


def cpu_seconds(pid: int) -> float:
    """What the process has used of the cores; 0 where it has ended."""
    with contextlib.suppress(OSError):
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def waited_for_a_core(pid: int) -> float:
    """Seconds that its main thread could have run and had no core; 0 where nobody counts them."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((_PROC / str(pid) / "schedstat").read_text().split()[1]) / 1e9
    return 0.0


def allow_open_files() -> None:
    """As many as the system lets this process have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def listener(port: int) -> int:
    """The process that listens on the port; 0 where it is another user's, or not here."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if inodes & {os.readlink(file) for file in (process / "fd").iterdir()}:
                return int(process.name)
    return 0
