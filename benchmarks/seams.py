"""What the borders inside the service cost and save; docs/decisions quotes the figures.

python -m benchmarks.seams
"""

import multiprocessing
import statistics
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

import model

_IMPORT = "import {}, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
_SIZES = ((224, 224), (512, 512), (1024, 1024))


def import_cost(module: str, runs: int = 5) -> tuple[float, int]:
    """Median seconds of a process that imports the module, and its peak memory in MiB."""
    command = [sys.executable, "-c", _IMPORT.format(module)]
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), int(done.stdout) // 1024


def _acknowledge(pipe: "Connection[Any, Any]") -> None:
    while pipe.recv() is not None:
        pipe.send(True)


def round_trip(message: object, runs: int = 200) -> float:
    """Median milliseconds until another process has a message and has said so."""
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(target=_acknowledge, args=(theirs,))
    other.start()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        ours.send(message)
        ours.recv()
        times.append(time.perf_counter() - start)
    ours.send(None)
    other.join()
    return 1000 * statistics.median(times)


def main() -> None:
    """Prints the figures."""
    for module in ("app.main", "app.worker"):
        seconds, memory = import_cost(module)
        print(f"import {module}: {seconds:.2f} s, {memory} MiB")
    crops = np.zeros((10, 3, 224, 224), np.uint8)
    print(f"crops of a 512 x 512 image through a pipe: {round_trip(crops):.2f} ms")
    print(f"where they lie in shared memory: {round_trip((0, crops.shape)):.2f} ms")
    for name in ("tiny-mpiqe", "tiny-clip-agiqa"):
        planner = model.load(name, device="cpu").planner
        for width, height in _SIZES:
            rows = planner.plan(width, height, planner.config.heads)
            print(f"{name}, {width} x {height}: {rows} rows")


if __name__ == "__main__":
    main()
