"""The memory of a service by its number of workers, after it has scored:

    python -m benchmarks.memory [--workers 1 2] [--images 60]

Both bundled models on the CPU, two processes that decode; megabytes (PSS: what processes share
counts for each by its share), of the whole service and of each process. Starts each anew.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.drills.processes import pss, role, tree
from benchmarks.service import make_files, saturated
from tests.app.server import serving

SETTINGS = {"AGIQA_MODELS": "tiny-mpiqe,tiny-clip-agiqa", "AGIQA_DECODE_WORKERS": "2"}


def measured(workers: int, files: list[Path]) -> dict[int, tuple[str, int]]:
    """Role and bytes of each process, by its pid."""
    variables = SETTINGS | {"AGIQA_WORKERS": str(workers), "AGIQA_THREADS": ""}
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), variables) as running:
        # The service is ready with its first.
        running.wait_until(lambda: running.metric("agiqa_worker_up", device="cpu") == workers, 60)
        saturated(running.url, files, 16)
        return {pid: (role(pid), pss(pid)) for pid in tree(running.process.pid)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--images", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(Path(folder), arguments.images)
        for workers in arguments.workers:
            found = measured(workers, files)
            total = sum(size for _, size in found.values()) / 1e6
            each = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in found.values())
            print(f"{workers} workers: {total:.0f} MB ({each})", flush=True)


if __name__ == "__main__":
    main()
