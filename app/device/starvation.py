"""How long a process waited for a core, so that a busy machine is not taken for a hang."""

from pathlib import Path


class Starvation:
    """Of one process, as Linux keeps it for each thread; elsewhere it is never starved.

    A thread that is stopped, or that waits for a lock or a device, does not wait for a core.
    """

    def __init__(self, pid: int) -> None:
        self._tasks = Path(f"/proc/{pid}/task")
        self._before: dict[str, int] = {}

    def seconds(self, wanted: bool = True) -> float:
        """How long its most starved thread waited since the last call; 0 after one that did not
        want to know, and so cost nothing.
        """
        now = self._read() if wanted else {}
        waited = [ns - self._before[thread] for thread, ns in now.items() if thread in self._before]
        self._before = now
        return max(waited, default=0) / 1e9

    def _read(self) -> dict[str, int]:
        """Nanoseconds in the run queue, by thread."""
        try:
            return {
                task.name: int((task / "schedstat").read_text().split()[1])
                for task in self._tasks.iterdir()
            }
        except (OSError, ValueError, IndexError):  # a thread has just ended, or not Linux
            return {}
