"""Bytes to an sRGB image: what is refused by its header, and how every kind of file becomes 8-bit
RGB.

The header is read first (``read_header``), so that nothing is decoded that would be refused. Needs
no torch.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, features

from model.errors import BadAspect, ImageTooLarge, UnreadableImage, UnsupportedImage

MAX_BYTES = 32 * 2**20
MAX_PIXELS = 100_000_000
MAX_ASPECT = 50

_ORIENTATION = 0x0112
_TRANSPOSED = {5, 6, 7, 8}  # EXIF orientations that swap width and height
_SRGB = ImageCms.createProfile("sRGB")
_LAB = ImageCms.createProfile("LAB")

# Our own limit is stricter about refusal and clearer in words; Pillow's warning would only come on
# top of it.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class Header:
    """Size in pixels as a viewer shows it (EXIF orientation applied), and the file format."""

    width: int
    height: int
    format: str

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def decode_bytes(self) -> int:
        return 32 * self.pixels + (1 << 26)


def supported_formats() -> tuple[str, ...]:
    """Names of the formats that this installation decodes, as Pillow writes them."""
    formats = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
    return (*formats, "AVIF") if features.check("avif") else formats


def read_header(
    data: bytes, *, max_bytes: int | None = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> Header:
    """Reads size and format without decoding a pixel, and refuses what can't be scored.

    ``max_bytes`` None: a file of any length.

    Raises:
        UnsupportedImage: no known format.
        UnreadableImage: a known format with a broken header, or no bytes at all.
        ImageTooLarge: over ``max_bytes`` or ``max_pixels``.
        BadAspect: one side over 50 times the other.
    """
    if max_bytes is not None and len(data) > max_bytes:
        raise ImageTooLarge(
            f"The image has {len(data) / 2**20:.1f} MiB; send at most {max_bytes / 2**20:g} MiB."
        )
    with _open(data) as image:
        width, height = image.size
        check_size(width, height, max_pixels)
        if _is_turned(image):
            width, height = height, width
        return Header(width, height, image.format or "")


def check_size(width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    """Refuses sizes that can't be scored.

    Raises:
        UnreadableImage: no pixels.
        ImageTooLarge: over ``max_pixels``.
        BadAspect: one side over 50 times the other.
    """
    if not width * height:
        raise UnreadableImage(f"The image is {width} x {height}: it has no pixels.")
    if width * height > max_pixels:
        megapixels = f"{width} x {height} = {width * height / 1e6:.0f} megapixels"
        raise ImageTooLarge(
            f"The image has {megapixels}; scale it down to at most {max_pixels / 1e6:g}."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadAspect(f"The image is {width} x {height}; crop it to at most {MAX_ASPECT} : 1.")


def decode(data: bytes) -> Image.Image:
    """Decodes the first frame to 8-bit sRGB, upright, with transparency over white.

    Raises:
        UnsupportedImage, UnreadableImage: as ``read_header``, and for data that ends early or is
            corrupt.
    """
    with _open(data) as image:
        return to_srgb(image)


def read(source: "str | Path | bytes | Image.Image | np.ndarray") -> Image.Image:
    """An upright sRGB image from a path, bytes, a Pillow image, or a uint8 array [h, w, 3].

    Raises:
        ImageError: as ``read_header`` and ``decode``, whatever the image comes as.
    """
    if isinstance(source, np.ndarray):
        source = Image.fromarray(source)
    if isinstance(source, Image.Image):
        check_size(*source.size)
        return to_srgb(source)
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    read_header(data, max_bytes=None)
    return decode(data)


def to_srgb(image: Image.Image) -> Image.Image:
    """Upright 8-bit sRGB of any Pillow mode."""
    with _decoding():
        image.load()
        image = ImageOps.exif_transpose(image)
        return _flatten(_profiled(_to_8_bit(image)))


@contextmanager
def _open(data: bytes) -> Iterator[Image.Image]:
    if not data:
        raise UnreadableImage("The file is empty; send the bytes of an image.")
    names = ", ".join(supported_formats())
    if not _looks_like_an_image(data):
        raise UnsupportedImage(f"This is no image that can be read here; send one of {names}.")
    with _decoding(), Image.open(io.BytesIO(data), formats=supported_formats()) as image:
        yield image


@contextmanager
def _decoding() -> Iterator[None]:
    """Turns whatever a decoder raises about its input into one error; Pillow's plugins raise many
    kinds.
    """
    try:
        yield
    except (OSError, SyntaxError, ValueError, EOFError, LookupError) as error:
        raise UnreadableImage(
            "The image is broken or cut off; send the whole file again."
        ) from error
    except (TypeError, RuntimeError, MemoryError, ArithmeticError, AttributeError) as error:
        raise UnreadableImage("The image can't be decoded; save it as PNG or JPEG.") from error


def _looks_like_an_image(data: bytes) -> bool:
    if data[:4] == b"RIFF":
        return data[8:12] == b"WEBP"
    if data[4:8] == b"ftyp":
        return data[8:12] in {b"avif", b"avis", b"mif1", b"miaf"} and "AVIF" in supported_formats()
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*"))


def _is_turned(image: Image.Image) -> bool:
    """Whether width and height change places when the image is put upright."""
    if image.format == "TIFF":  # Pillow has swapped them already
        return False
    try:
        return int(image.getexif().get(_ORIENTATION, 1)) in _TRANSPOSED
    except (OSError, SyntaxError, ValueError, TypeError):
        return False  # broken EXIF does not make the image unreadable


def _to_8_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, in whichever of Pillow's modes
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        scale = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
        return Image.fromarray((values * scale).clip(0, 255).round().astype(np.uint8))
    if image.mode == "LAB":
        transform = ImageCms.buildTransform(_LAB, _SRGB, "LAB", "RGB")
        return ImageCms.applyTransform(image, transform) or image
    return image


def _profiled(image: Image.Image) -> Image.Image:
    """Colours of an embedded ICC profile moved to sRGB; a profile that can't be used is ignored, as
    viewers do.
    """
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in {"RGB", "RGBA", "CMYK", "L"}:
        return image
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        moved = ImageCms.profileToProfile(image, io.BytesIO(profile), _SRGB, outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return moved or image


def _flatten(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


ImageFile.LOAD_TRUNCATED_IMAGES = False
