"""What an image's header says, by bounded readers that neither decode a pixel nor need Pillow.

A process that must not run decoders on strangers' bytes (the API) decides from it alone: the looks
at a file are counted, and the file chooses the size of nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from model.errors import BadAspect, ImageTooLarge, UnreadableImage, UnsupportedImage
from model.preprocess.headers.avif import avif
from model.preprocess.headers.exif import TRANSPOSED
from model.preprocess.headers.frame import Frame
from model.preprocess.headers.jpeg import jpeg
from model.preprocess.headers.raster import bmp, gif, png
from model.preprocess.headers.reader import BROKEN, Reader
from model.preprocess.headers.tiff import tiff
from model.preprocess.headers.webp import webp

__all__ = [
    "BROKEN",
    "FORMATS",
    "MAX_ASPECT",
    "MAX_BYTES",
    "MAX_DECODE_BYTES",
    "MAX_PIXELS",
    "READERS",
    "TRANSPOSED",
    "Header",
    "check_size",
    "format_of",
    "look",
    "read_header",
]

MAX_BYTES = 32 * 2**20
MAX_PIXELS = 50_000_000
MAX_DECODE_BYTES = 512 * 2**20
MAX_ASPECT = 50
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")

# Tables, rows and the colour transform, whatever the size; measured by benchmarks.decode_memory.
_FIXED_BYTES = 4 * 2**20

READERS: dict[str, Callable[[Reader], Frame]] = {
    "JPEG": jpeg,
    "PNG": png,
    "WEBP": webp,
    "BMP": bmp,
    "GIF": gif,
    "TIFF": tiff,
    "AVIF": avif,
}
_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_AVIF_BRANDS = {b"avif", b"avis", b"mif1", b"miaf"}


@dataclass(frozen=True, slots=True)
class Header:
    """Size in pixels as a viewer shows it (EXIF orientation applied), and the file format.

    ``pixels``: of the largest of canvas, frame and tile. ``decode_bytes``: an upper estimate of the
    memory that ``images.decode`` takes for it.
    """

    width: int
    height: int
    format: str
    pixels: int = field(default=0, compare=False)
    decode_bytes: int = field(default=0, compare=False)
    orientation: int = field(default=1, compare=False)

    @property
    def megapixels(self) -> float:
        """Of the image itself."""
        return self.width * self.height / 1e6


def read_header(
    data: bytes,
    *,
    max_bytes: int | None = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    max_decode_bytes: int = MAX_DECODE_BYTES,
) -> Header:
    """Reads size and format without decoding a pixel, and refuses what can't be scored.

    ``max_bytes`` None: a file of any length.

    Raises:
        UnsupportedImage: no known format.
        UnreadableImage: a known format with a broken header, or no bytes at all.
        ImageTooLarge: over ``max_bytes``, ``max_pixels`` or ``max_decode_bytes``.
        BadAspect: one side over 50 times the other.
    """
    if max_bytes is not None and len(data) > max_bytes:
        raise ImageTooLarge(
            f"The image has {len(data) / 2**20:.1f} MiB; send at most {max_bytes / 2**20:g} MiB."
        )
    header = look(data)
    check_size(header.width, header.height, max_pixels)
    if header.pixels > max_pixels:
        raise ImageTooLarge(
            f"The image's canvas or tiles have {header.pixels / 1e6:.0f} megapixels; scale it down"
            f" to at most {max_pixels / 1e6:g} and save it again."
        )
    if header.decode_bytes > max_decode_bytes:
        raise ImageTooLarge(
            f"Decoding the image takes about {header.decode_bytes / 2**20:.0f} MiB of memory, over"
            f" the limit of {max_decode_bytes / 2**20:g}; scale it down or save it as a plain JPEG."
        )
    return header


def look(data: bytes) -> Header:
    """The header, whatever its size.

    Raises:
        UnsupportedImage, UnreadableImage: as ``read_header``.
    """
    format = format_of(data)
    frame = READERS[format](Reader(data))
    width, height = frame.upright
    decode_bytes = round(_FIXED_BYTES + len(data) + frame.pixel_bytes * frame.largest)
    return Header(width, height, format, frame.largest, decode_bytes, frame.orientation)


def format_of(data: bytes) -> str:
    """The format by the file's first bytes, as Pillow names it.

    Raises:
        UnsupportedImage: none that we know.
        UnreadableImage: no bytes.
    """
    if not data:
        raise UnreadableImage("The file is empty; send the bytes of an image.")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and data[8:12] in _AVIF_BRANDS:
        return "AVIF"
    for magic, format in _MAGIC.items():
        if data.startswith(magic):
            return format
    raise UnsupportedImage(
        f"This is no image that can be read here; send one of {', '.join(FORMATS)}."
    )


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
