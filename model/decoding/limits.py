"""What a decoder may use, set by the decoder's process for itself before each image."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import resource

# What the process may write to files, which is what C libraries have to say on standard error.
_MOST_WRITTEN = 1 << 20
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


def restrict() -> None:
    """For good: ends with its parent, gains no rights, opens few files, writes no large ones."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_WRITTEN, _MOST_WRITTEN))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


@contextlib.contextmanager
def limited(cpu_seconds: float, memory: int) -> Iterator[None]:
    """Within it, the process is ended by SIGPROF after so much processor time, whatever C library
    it is in, and an allocation fails that would take it over ``memory`` bytes beyond what it has.
    """
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    if used := _address_space():
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, unlimited[1]))
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, unlimited)


def _address_space() -> int | None:
    """Bytes of address space in use; None where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text().split(maxsplit=1)[0]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
