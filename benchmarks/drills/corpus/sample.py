"""A hostile upload, and small good files to make some of."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Hostile:
    """An upload that means harm.

    ``refused``: its header alone puts it over the limits, so that nothing is decoded.
    """

    name: str
    data: bytes
    refused: bool = False


def picture(width: int = 48, height: int = 40, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A small colourful picture."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise).convert(mode)


def encoded(image: Image.Image | None = None, form: str = "JPEG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    (image or picture()).save(buffer, form, **options)
    return buffer.getvalue()
