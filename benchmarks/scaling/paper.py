"""What a device computes, what it needs beside it, and what a million images cost.

Of GPUs nothing is measured: figures follow from the vendors' peaks and the multiply-adds that
``python -m benchmarks.costs`` counts. Of the CPU here the network and decoding are measured, in
seconds of a core, which a busy machine lengthens least.
"""

import io
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

import model
from benchmarks.scaling.queueing import Seconds

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
    """What is not measured here, or elsewhere.

    Attributes:
        efficiency: part of its peak that a GPU reaches on such a network.
        decode: seconds of a core to decode an image and cut its crops.
        carried: images per second that one API process carries (``python -m benchmarks.api``).
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
    """Seconds of a core for an image of each of ``SIZES``, and its rows."""

    decode: list[float]
    network: list[float]
    rows: list[int]

    @property
    def rows_per_second(self) -> float:
        return sum(self.rows) / sum(self.network)

    def times(self) -> Seconds:
        """What an image takes of a replica, whose decoders are aside."""
        return np.array(self.network)


def measure(rounds: int = 5) -> Measured:
    """Scores images on one core with a bundled model; medians of so many rounds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _timed(rounds)
    finally:
        torch.set_num_threads(threads)


def _timed(rounds: int) -> Measured:
    scorer = model.load(_BUNDLED, device="cpu", dtype="float32")
    measured = Measured([], [], [])
    for size in SIZES:
        data = _picture(size)
        decoded, scored = [], []
        for _ in range(rounds):
            begin = time.process_time()
            with Image.open(io.BytesIO(data)) as image:
                pixels = image.convert("RGB")
            between = time.process_time()
            scorer.score(pixels, heads=["quality"])
            decoded.append(between - begin)
            scored.append(time.process_time() - between)
        measured.decode.append(statistics.median(decoded))
        measured.network.append(statistics.median(scored))
        measured.rows.append(scorer.planner.layout(*size, ("quality",)).rows)
    return measured


def _picture(size: tuple[int, int]) -> bytes:
    """A noisy JPEG: as heavy to decode as a photograph."""
    width, height = size
    small = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def table(rows: Sequence[Sequence[str]]) -> str:
    """As Markdown; the first row is the header."""
    header, *others = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([header, "|" + "---|" * len(rows[0]), *others])
