"""What a JPEG costs from its bytes to its crops by several decoders, and how far each moves scores:

    python -m benchmarks.decoders [--rounds 5] [--checkpoint tiny-clip-agiqa]

Photographs that ship with scikit-image, brought to the size, with the noise of a camera. simplejpeg
and torchvision are measured where they are installed (``pip install --target`` and ``PYTHONPATH``).
Milliseconds of one thread, by turns; the drift is the largest of any head, against the decoder in
use. "scaled" ones leave out what the grid's size does not need while they decode.
"""

import argparse
import importlib
import importlib.util
import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import skimage.data
import torch
from PIL import Image

import model
from benchmarks.timing import seconds
from model.config import HEADS
from model.preprocess import images
from model.preprocess.crops import Layout, cut
from model.scorer import Scorer

_PICTURES = ("astronaut", "chelsea", "coffee", "rocket")
_SIZES = ((512, 512), (1024, 1024), (4000, 3000))
_NOISE = 6.0
_PROMPT = "a photograph"

# A file and its layout to what the crops are cut from.
Decode = Callable[[bytes, Layout], Image.Image]


def write_jpeg(name: str, width: int, height: int) -> bytes:
    """A noisy photograph as a camera writes it: quality 92, colours at half of the resolution."""
    picture = Image.fromarray(getattr(skimage.data, name)())
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(0).normal(0, _NOISE, pixels.shape)
    file = io.BytesIO()
    Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


def pillow(data: bytes, _: Layout) -> Image.Image:
    """What is in use."""
    return images.decode(data)


def pillow_scaled(data: bytes, layout: Layout) -> Image.Image:
    """Scaled while it is decoded, to no less than the grid."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (layout.grid.width, layout.grid.height))
    return image.convert("RGB")


def torchvision_io(data: bytes, _: Layout) -> Image.Image:
    """torchvision's, whose pixels lie plane by plane."""
    library = importlib.import_module("torchvision.io")
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels = library.decode_jpeg(encoded, library.ImageReadMode.RGB).permute(1, 2, 0)
    return Image.fromarray(pixels.contiguous().numpy())


def simplejpeg(data: bytes, _: Layout) -> Image.Image:
    """TurboJPEG, as exactly as it can."""
    turbo = importlib.import_module("simplejpeg")
    return Image.fromarray(turbo.decode_jpeg(data))


def simplejpeg_scaled(data: bytes, layout: Layout) -> Image.Image:
    """TurboJPEG, scaled to no less than the grid."""
    turbo = importlib.import_module("simplejpeg")
    size = {"min_width": layout.grid.width, "min_height": layout.grid.height}
    return Image.fromarray(turbo.decode_jpeg(data, **size, min_factor=1))


def decoders() -> Mapping[str, Decode]:
    """By name, the one in use first."""
    found: dict[str, Decode] = {"Pillow": pillow, "Pillow, scaled": pillow_scaled}
    if importlib.util.find_spec("torchvision"):
        found["torchvision"] = torchvision_io
    if importlib.util.find_spec("simplejpeg"):
        found |= {"simplejpeg": simplejpeg, "simplejpeg, scaled": simplejpeg_scaled}
    return found


def crops(decode: Decode, data: bytes, layout: Layout) -> np.ndarray:
    """uint8 [n, 3, h, w], as the service cuts them."""
    out = np.empty(layout.array_shape, np.uint8)
    cut(decode(data, layout), layout, out)
    return out


def times_of(
    ways: Mapping[str, Decode], files: Sequence[bytes], layout: Layout, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds per image of each way, in turns, after a first one."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, decode in ways.items():
            took = seconds(partial(_crop_all, decode, files, layout))
            if turn:
                times[name].append(1e3 * took / len(files))
    return times


def _crop_all(decode: Decode, files: Sequence[bytes], layout: Layout) -> None:
    for data in files:
        crops(decode, data, layout)


def drift(scorer: Scorer, layout: Layout, ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference of a head's score between two decoders' crops."""
    first, second = (
        scorer.reduce(scorer.forward(each, layout.row_crop, layout.row_pass), layout, _PROMPT)
        for each in (ours, theirs)
    )
    pairs = [(getattr(first, head), getattr(second, head)) for head in HEADS]
    return max(abs(a - b) for a, b in pairs if a is not None and b is not None)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checkpoint", default="tiny-clip-agiqa")
    options = parser.parse_args(arguments)
    scorer = model.load(options.checkpoint, device="cpu", dtype="float32")
    ways = decoders()
    for width, height in _SIZES:
        layout = scorer.plan(width, height, prompt=_PROMPT)
        files = [write_jpeg(name, width, height) for name in _PICTURES]
        times = times_of(ways, files, layout, options.rounds)
        print(f"{width} x {height}, {len(files[0]) // 1024} KiB:")
        ours = [crops(pillow, data, layout) for data in files]
        for name, decode in ways.items():
            theirs = [crops(decode, data, layout) for data in files]
            moved = [drift(scorer, layout, *each) for each in zip(ours, theirs, strict=True)]
            middle, low, high = statistics.median(times[name]), min(times[name]), max(times[name])
            print(f"  {name:20} {middle:6.1f} ms ({low:.1f} to {high:.1f}); drift {max(moved):.1e}")


if __name__ == "__main__":
    main()
