"""What the borders inside the service cost and save; docs/decisions quotes the figures.

python -m benchmarks.seams
"""

import io
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from PIL import Image

import model
from model.decoding.cropping import crop_here, cropping
from model.decoding.decoder import DecodeLimits, anonymous_file
from model.preprocess import images

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


def decoding(width: int, height: int, runs: int = 100) -> tuple[float, float]:
    """Median milliseconds from a JPEG to its crops, here and in a process of its own."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((width, height)).save(buffer, "JPEG", quality=90)
    data = buffer.getvalue()
    header = images.read_header(data)
    layout = model.load(device="cpu").planner.plan(width, height, ("quality",))
    with cropping(1, DecodeLimits(cpu_seconds=60)) as apart:
        medians = []
        for crop in (crop_here, apart):
            crop(data, header, layout)
            times = []
            for _ in range(runs):
                start = time.perf_counter()
                crop(data, header, layout)
                times.append(time.perf_counter() - start)
            medians.append(1000 * statistics.median(times))
    here, there = medians
    return here, there


def writing(size: int = 8 * 2**20, runs: int = 30) -> tuple[float, float]:
    """Median milliseconds to write an upload into shared memory whose pages have to be found, and
    whose pages are there. What comes between has left the caches.
    """
    upload, between = os.urandom(size), os.urandom(64 * 2**20)
    anew, kept = anonymous_file("anew"), anonymous_file("kept")
    os.pwrite(kept, upload, 0)
    times: dict[int, list[float]] = {anew: [], kept: []}
    for _ in range(runs):
        for file, its in times.items():
            between.count(0)
            start = time.perf_counter()
            os.pwrite(file, upload, 0)
            os.ftruncate(anew, 0)
            its.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[anew]), 1000 * statistics.median(times[kept])


def main() -> None:
    """Prints the figures."""
    for module in ("app.main", "app.worker"):
        seconds, memory = import_cost(module)
        print(f"import {module}: {seconds:.2f} s, {memory} MiB")
    crops = np.zeros((10, 3, 224, 224), np.uint8)
    print(f"crops of a 512 x 512 image through a pipe: {round_trip(crops):.2f} ms")
    print(f"where they lie in shared memory: {round_trip((0, crops.shape)):.2f} ms")
    anew, kept = writing()
    print(f"8 MiB into shared memory that is new {anew:.1f} ms, that is kept {kept:.1f} ms")
    for width, height in _SIZES[1:]:
        here, there = decoding(width, height)
        print(f"decoding {width} x {height} in a thread {here:.1f} ms, in a process {there:.1f} ms")
    for name in ("tiny-mpiqe", "tiny-clip-agiqa"):
        planner = model.load(name, device="cpu").planner
        for width, height in _SIZES:
            rows = planner.layout(width, height, planner.config.heads).rows
            print(f"{name}, {width} x {height}: {rows} rows")


if __name__ == "__main__":
    main()
