"""What a device computes, what it needs beside it, and what a million images cost.

Of GPUs nothing is measured: figures follow from the vendors' peaks and the multiply-adds that
``python -m benchmarks.costs`` counts. Of the CPU here crops and network are measured, in seconds of
a core, which a busy machine lengthens least.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

import model
from benchmarks.scaling.queueing import Seconds
from model.scorer import Scorer

# Dense bfloat16 (T4: float16) in TFLOP/s, as the vendor states them without sparsity.
PEAKS = {"H100 SXM": 989.0, "L40S": 362.0, "A100": 312.0, "A10": 125.0, "L4": 121.0, "T4": 65.0}
SIZES = ((320, 240), (512, 512), (768, 512), (1024, 768))
_BUNDLED = "tiny-clip-agiqa"


@dataclass(frozen=True)
class Network:
    """As docs/methods.md lists it: multiply-adds of a row, rows of a 512 x 512 image and the pixels
    of a crop's side.
    """

    name: str
    backbone: str
    multiply_adds: float
    rows: int
    side: int

    @property
    def crop_bytes(self) -> int:
        """Of all crops of that image."""
        return self.rows * 3 * self.side**2


NETWORKS = (
    Network("clip-agiqa", "ViT-B-32", 4.76e9, 9, 224),
    Network("mp-iqe", "ViT-B-16", 18.5e9, 9, 224),
    Network("`tiny-clip-agiqa`", "own", 0.62e9, 5, 256),
)


@dataclass(frozen=True)
class Assumed:
    """What is put in.

    Attributes:
        efficiency: part of its peak that a GPU reaches on such a network: a guess.
        decode: seconds of a core to decode an image and cut its crops, and
        carried: images per second that one API process carries: ``python -m benchmarks.api``.
        price: of a device and what stands around it, per hour.
    """

    efficiency: float
    decode: float
    carried: float
    price: float


@dataclass(frozen=True)
class Device:
    """What keeps a device busy with one network."""

    rows: float
    images: float
    crops: float
    decoders: float
    processes: float
    price: float


def on_paper(network: Network, peak: float, assumed: Assumed) -> Device:
    """Of a GPU with that peak in TFLOP/s; rows, images and bytes of crops per second."""
    rows = peak * 1e12 * assumed.efficiency / (2 * network.multiply_adds)
    images = rows / network.rows
    return Device(
        rows=rows,
        images=images,
        crops=images * network.crop_bytes,
        decoders=images * assumed.decode,
        processes=images / assumed.carried,
        price=price_of_a_million(images, assumed.price),
    )


def price_of_a_million(images: float, price: float) -> float:
    """For a device that is never idle, at ``images`` per second and ``price`` per hour."""
    return price / 3600 * 1e6 / images


@dataclass(frozen=True)
class Measured:
    """Seconds of a core for an image of each of ``SIZES``, from its pixels on, and its rows."""

    times: Seconds
    rows: list[int]

    @property
    def rows_per_second(self) -> float:
        return sum(self.rows) / float(self.times.sum())


def measure(rounds: int = 5) -> Measured:
    """Scores images on one core with a bundled model; medians of so many rounds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scorer = model.load(_BUNDLED, device="cpu", dtype="float32")
        times = [_seconds(scorer, size, rounds) for size in SIZES]
    finally:
        torch.set_num_threads(threads)
    rows = [scorer.planner.layout(*size, ("quality",)).rows for size in SIZES]
    return Measured(np.array(times), rows)


def _seconds(scorer: Scorer, size: tuple[int, int], rounds: int) -> float:
    image = _noise(size)
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        scorer.score(image, heads=["quality"])
        times.append(time.process_time() - begin)
    return statistics.median(times)


def _noise(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    return Image.fromarray(pixels)


def table(rows: Sequence[Sequence[str]]) -> str:
    """As Markdown; the first row is the header."""
    header, *others = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([header, "|" + "---|" * len(rows[0]), *others])
