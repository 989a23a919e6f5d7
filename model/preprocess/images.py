"""Bytes to an sRGB image: how every kind of file becomes 8-bit RGB.

The header is read first (``model.preprocess.headers``), so that nothing is decoded that would be
refused; the orientation is the header's too, so that both agree on the size. Needs no torch.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import AvifImagePlugin, Image, ImageCms, ImageFile, features

from model.errors import ImageError, UnreadableImage, UnsupportedImage
from model.preprocess import headers
from model.preprocess.headers import (
    FORMATS,
    MAX_ASPECT,
    MAX_BYTES,
    MAX_DECODE_BYTES,
    MAX_PIXELS,
    Header,
    check_size,
    read_header,
)

__all__ = [
    "MAX_ASPECT",
    "MAX_BYTES",
    "MAX_DECODE_BYTES",
    "MAX_PIXELS",
    "Header",
    "check_size",
    "decode",
    "read",
    "read_header",
    "supported_formats",
    "to_srgb",
]

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BAND_PIXELS = 2**16
_SRGB = ImageCms.createProfile("sRGB")
_LAB = ImageCms.createProfile("LAB")

# Our own limit is stricter about refusal and clearer in words; Pillow's warning would only come on
# top of it.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False
# Images are decoded side by side; threads of one image would only stand in each other's way.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def supported_formats() -> tuple[str, ...]:
    """Names of the formats that this installation decodes, as Pillow writes them."""
    return FORMATS if features.check("avif") else tuple(f for f in FORMATS if f != "AVIF")


def decode(data: bytes) -> Image.Image:
    """Decodes the first frame to 8-bit sRGB, upright, with transparency over white. Its size is the
    header's.

    Raises:
        UnsupportedImage, UnreadableImage: as ``headers.look``, and for data that ends early, is
            corrupt, or is of another size than the header.
    """
    header = headers.look(data)
    if header.format not in supported_formats():
        names = ", ".join(supported_formats())
        raise UnsupportedImage(f"This is no image that can be read here; send one of {names}.")
    with _decoding():
        image: Image.Image = Image.open(io.BytesIO(data), formats=[header.format])
        turn = None if header.format == "TIFF" else _TURNS.get(header.orientation)
        # Before a pixel is decoded: what the header promised is what memory there is for.
        _check_agreement(image, header, turned=header.format != "TIFF")
        image.load()
        if turn is not None:
            image = image.transpose(turn)
        _check_agreement(image, header, turned=False)
        for step in _TO_SRGB:
            image = step(image)
        return image


def _check_agreement(image: Image.Image, header: Header, *, turned: bool) -> None:
    wanted = header.width, header.height
    if turned and header.orientation in headers.TRANSPOSED:
        wanted = header.height, header.width
    if image.size != wanted:
        raise UnreadableImage("The image's header and its content differ in size; save it again.")


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
    """Upright 8-bit sRGB of any Pillow mode; a new image."""
    with _decoding():
        image.load()
        turn = None
        with suppress(Exception):  # broken EXIF, which Pillow reports in many ways
            turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
        upright = image.copy() if turn is None else image.transpose(turn)
        for step in _TO_SRGB:
            upright = step(upright)
        return upright


@contextmanager
def _decoding() -> Iterator[None]:
    """Turns whatever a decoder raises about its input into one error; Pillow's plugins raise many
    kinds.
    """
    try:
        yield
    except ImageError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, LookupError) as error:
        raise UnreadableImage(headers.BROKEN) from error
    except Exception as error:
        raise UnreadableImage("The image can't be decoded; save it as PNG or JPEG.") from error


def _flattened(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        return _banded(image, "RGB", _over_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """(its first row, some rows of the image), from the top."""
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _banded(
    image: Image.Image, mode: str, change: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """``change`` of the image, band by band: its copies stay small."""
    out = Image.new(mode, image.size)
    for top, band in _bands(image):
        out.paste(change(band), (0, top))
    return out


def _to_8_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, in whichever of Pillow's modes
        return _banded(image, "L", _from_16_bit)
    if image.mode == "F":
        return _from_float(image)
    if image.mode == "LAB":
        transform = ImageCms.buildTransform(_LAB, _SRGB, "LAB", "RGB")
        return ImageCms.applyTransform(image, transform) or image
    return image


def _from_16_bit(band: Image.Image) -> Image.Image:
    values = np.asarray(band).clip(0, 65535).astype(np.uint32)
    # Rounds v / 257, whose fraction is never one half.
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _from_float(image: Image.Image) -> Image.Image:
    """Grey of floats, 0 to 1 or 0 to 255."""
    highest = max(np.nan_to_num(np.asarray(band)).max(initial=0.0) for _, band in _bands(image))
    scale = np.float32(255.0 if highest <= 1.0 else 1.0)

    def change(band: Image.Image) -> Image.Image:
        values = np.nan_to_num(np.asarray(band)) * scale
        return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))

    return _banded(image, "L", change)


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
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return moved or image


def _over_white(band: Image.Image) -> Image.Image:
    layer = band.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


# Each step lets go of the image before it: no more than two are in memory.
_TO_SRGB = (_to_8_bit, _profiled, _flattened)
