"""The service against the bare scorer, fed with the same files on the same machine.

    python -m benchmarks.service [--images 200] [--clients 16]

Throughput: images per second of `POST /score` under saturation / of the scorer in a loop (decode,
crops, network). Latency: a lone request's median minus the scorer's median for the same file.
"""

import argparse
import concurrent.futures
import statistics
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import torch
from PIL import Image

import model
from tests.app.server import serving


def make_files(folder: Path, count: int) -> list[Path]:
    """Noisy 512 x 512 JPEGs: as heavy to decode as photographs."""
    rng = np.random.default_rng(0)
    files = []
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
        files.append(folder / f"{i}.jpg")
        small.resize((512, 512), Image.Resampling.BICUBIC).save(files[-1], quality=90)
    return files


def bare(files: list[Path]) -> list[float]:
    """Seconds per image of the scorer in a loop."""
    scorer = model.load(device="cpu")
    scorer.score(files[0], heads=["quality"])
    times = []
    for file in files:
        start = time.perf_counter()
        scorer.score(file, heads=["quality"])
        times.append(time.perf_counter() - start)
    return times


def lone(url: str, files: list[Path]) -> list[float]:
    """Seconds per request, one after another on one connection."""
    times = []
    with httpx.Client(base_url=url, timeout=60) as client:
        for file in files:
            data = file.read_bytes()
            start = time.perf_counter()
            client.post("/score", files={"image": data}).raise_for_status()
            times.append(time.perf_counter() - start)
    return times


def saturated(url: str, files: list[Path], clients: int) -> tuple[float, int]:
    """Images per second with so many clients, and how many requests were refused and sent again."""
    refused = 0

    def work(share: list[Path]) -> None:
        nonlocal refused
        with httpx.Client(base_url=url, timeout=60) as client:
            for file in share:
                data = file.read_bytes()
                while client.post("/score", files={"image": data}).status_code == 429:
                    refused += 1
                    time.sleep(0.2)

    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, [files[i::clients] for i in range(clients)]))
    return len(files) / (time.perf_counter() - start), refused


def main() -> None:
    """Prints both comparisons, the bare scorer measured before and after the service."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_files(folder, arguments.images)
        before = bare(files)
        with serving(folder, {"AGIQA_THREADS": str(torch.get_num_threads())}) as service:
            lone(service.url, files[:10])
            single = lone(service.url, files[:50])
            rate, refused = saturated(service.url, files, arguments.clients)
            batches = service.metric("agiqa_batch_crops_count")
            rows = service.metric("agiqa_batch_crops_sum")
        after = bare(files)
    scorer = statistics.median(before + after)
    alone = len(before + after) / sum(before + after)
    extra = (statistics.median(single) - scorer) * 1e3
    print(f"bare scorer        {alone:7.1f} images/s, median {scorer * 1e3:.1f} ms")
    print(f"lone request       median {statistics.median(single) * 1e3:.1f} ms ({extra:+.1f} ms)")
    print(f"service, saturated {rate:7.1f} images/s = {rate / alone:.2f} of the bare scorer")
    print(
        f"                   {rows / batches:.1f} rows per batch, {refused} refused and sent again"
    )


if __name__ == "__main__":
    main()
