"""Files as people upload them, good and bad."""

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import Image


def picture(width: int = 300, height: int = 260, seed: int = 0) -> Image.Image:
    """A smooth colourful picture, the same for the same arguments."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (9 + seed + c) + y / 17) * 100 + 128 for c in range(3)]
    return Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))


def encoded(image: Image.Image | None = None, form: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    (image or picture()).save(buffer, form, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    data = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\x08IDAT"


def zipped() -> bytes:
    """A zip archive with an image in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("image.png", encoded())
    return buffer.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="300" height="300"><rect/></svg>'


def sixteen_bit() -> bytes:
    """A 16-bit greyscale PNG."""
    grey = np.asarray(picture().convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(grey))


def animated(form: str) -> bytes:
    """Three frames; the first is ``picture()``."""
    frames = [picture(seed=i) for i in range(3)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:])
