"""The memory that decoding takes beside the header's estimate of it: ``python -m
benchmarks.decode_memory``.

Each image is decoded in a process of its own, whose peak is read from Linux's ``/proc``. Exits with
1 where an estimate is below the peak.
"""

import io
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from model.preprocess import headers, images

SIZE = 2400, 1600
MODES = ("RGB", "RGBA", "L", "LA", "P", "CMYK", "I;16", "F")
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "JPEG": [
        {},
        {"subsampling": 0},
        {"progressive": True},
        {"progressive": True, "subsampling": 0},
    ],
    "PNG": [{"compress_level": 1}, {"compress_level": 1, "transparency": 0}],
    "WEBP": [{"method": 0}, {"method": 0, "lossless": True}],
    "TIFF": [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_lzw", "tiffinfo": {278: 1600}}],
    "AVIF": [{"speed": 10}, {"speed": 10, "subsampling": "4:4:4"}],
    "GIF": [{}],
    "BMP": [{}],
}


def main() -> int:
    """Prints a line for each kind of file."""
    low = 0
    for name, data in files():
        command = [sys.executable, "-m", "benchmarks.decode_memory", "-"]
        done = subprocess.run(command, input=data, capture_output=True, check=True)
        peak = int(done.stdout)
        estimate = headers.look(data).decode_bytes
        low += peak > estimate
        print(f"{name:44} {peak / 2**20:6.0f} MiB, estimate {estimate / 2**20:6.0f} MiB")
    return 1 if low else 0


def files() -> Iterator[tuple[str, bytes]]:
    """(what it is, the file), of every format, mode and option that go together."""
    rng = np.random.default_rng(0)
    across, down = SIZE
    coarse = rng.integers(0, 256, (down // 16, across // 16, 4), np.uint8)
    picture = Image.fromarray(coarse).resize(SIZE)
    exif = Image.Exif()
    exif[0x0112] = 6
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    extras: tuple[dict[str, Any], ...] = ({}, {"exif": exif, "icc_profile": srgb})
    for format, mode in itertools.product(images.supported_formats(), MODES):
        image = picture.convert(mode) if mode in {"RGB", "RGBA"} else picture.convert("L")
        if mode == "CMYK":
            image = picture.convert(mode)
        elif mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        else:
            image = image.convert(mode)
        for options, extra in itertools.product(OPTIONS[format], extras):
            out = io.BytesIO()
            try:
                image.save(out, format, **options, **extra)
            except (OSError, ValueError, TypeError):
                continue
            yield (
                f"{format} {mode} {options or ''} {'turned, ICC' if extra else ''}",
                out.getvalue(),
            )


def measure() -> None:
    """In the child: the peak above what the process takes before."""
    for format in images.supported_formats():  # loads the plugins
        out = io.BytesIO()
        Image.new("RGB", (64, 64)).save(out, format)
        images.decode(out.getvalue())
    data = sys.stdin.buffer.read()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmRSS")
    images.decode(data)
    print(memory("VmHWM") - before)


def memory(name: str) -> int:
    """Bytes that the process takes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


if __name__ == "__main__":
    if "-" in sys.argv:
        measure()
    else:
        sys.exit(main())
