"""What this process may use of the machine: its affinity and the limits of its control groups.

Inside a container the machine's own figures mislead: two of 64 cores, three of 256 GiB.
"""

import contextlib
import ctypes
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
# Of glibc's malloc.h. Older ones take no threshold over 32 MiB.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 32 * 2**20


def usable_cores() -> int:
    """Cores that this process may use: its affinity, or less where a quota of time says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min([cores or 1, *map(round, _quotas())]))


def usable_memory() -> int:
    """Bytes that this process may use: those of the machine, or less where a limit says so."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = _numbers("memory", "memory.max", "memory.limit_in_bytes")
    return min([machine, *(limit for (limit,) in limits)])


def own_memory() -> int:
    """Bytes that this process has for itself now: without what it maps of files, of which processes
    of one program share one copy. Where Linux's figure is missing, the most it ever had, with them.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    kibibytes = re.findall(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    if kibibytes:
        return 1024 * int(kibibytes[0])
    import resource  # not on Windows, where the rest of this module can be imported

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def keep_freed_memory(most: int = 192 * 2**20) -> bool:
    """Has the C library keep what is freed, up to ``most`` bytes at a time, for what is allocated
    next; whether it does. Without, glibc gets large blocks from the system and gives them back at
    once, and each page is cleared anew.

    In a network that is each layer's output: batches of 8 rows and more took twice the time per row
    that those of 4 did. In a server it is the bodies of requests. Other C libraries are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    of_own = mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
    return bool(of_own and mallopt(_TRIM_THRESHOLD, most))


def give_back_memory() -> None:
    """Returns to the system what this process has freed. glibc keeps it otherwise: 100 MB after the
    two bundled models were loaded and warmed up in float32.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class Tidying:
    """Bounds what a process keeps of freed memory. Calls of ever other sizes leave holes that the
    next one does not fit into, and for a quarter of an hour the heap grows round them: once it has
    grown by ``most`` bytes, they are given back (``give_back_memory``), once in ``every`` so many
    seconds at most.
    """

    def __init__(
        self,
        most: int = 160 * 2**20,
        every: float = 5.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        own: Callable[[], int] = own_memory,
        give_back: Callable[[], None] = give_back_memory,
    ) -> None:
        self._most = most
        self._every = every
        self._clock = clock
        self._own = own
        self._give_back = give_back
        self._least = own()
        self._not_before = clock()

    def look(self) -> None:
        """Call between two pieces of work. Where it gives back, this takes some 15 milliseconds,
        and the next piece a little longer, since the system clears the memory anew.
        """
        if self._own() <= self._least + self._most or self._clock() < self._not_before:
            return
        self._give_back()
        self._least = self._own()
        self._not_before = self._clock() + self._every


def _quotas() -> Iterator[float]:
    """Cores' worth of time, of each group that limits it."""
    for allowed, period in _numbers("cpu", "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"):
        yield allowed / period


def _numbers(controller: str, unified: str, *separate: str) -> Iterator[list[int]]:
    """What those files hold in the process's groups and all above them; a limit holds for all
    below it.

    Args:
        controller: as the first version of control groups names it.
        unified: the file of the second version, which has one tree for all controllers.
        separate: the files of the first.
    """
    for group, is_unified in _groups(controller):
        files = [group / unified] if is_unified else [group / name for name in separate]
        try:
            words = " ".join(file.read_text() for file in files).split()
        except OSError:
            continue
        numbers = [int(word) for word in words if word.isdecimal()]
        if len(numbers) == len(words):  # "max" and -1: no limit
            yield numbers


def _groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """The folders of the process's groups, the innermost first, and whether they are unified.

    A path that this process does not see (the host's, in a container) has parents that it does.
    """
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _GROUPS / controllers if controllers else _GROUPS
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            yield folder, not controllers
            if folder == root:
                break
