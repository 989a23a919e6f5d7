"""Bytes to upright sRGB: every kind of file that users send, and what is refused."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from model.errors import BadAspect, ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage
from model.preprocess import images
from tests.model import tiny
from tests.model.preprocess.image_files import array, chunk, encoded, profile

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")

ORIENTATION = 0x0112


def bomb(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that claims to be ``width`` x ``height``."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(b"\0" * 100)),
            chunk(b"IEND", b""),
        ]
    )


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("image.png", encoded(tiny.picture(8, 8), "PNG"))
    return out.getvalue()


LOSSLESS = ["PNG", "BMP", "TIFF"]


@pytest.mark.parametrize("format", LOSSLESS)
def test_a_lossless_file_gives_its_own_pixels(format: str) -> None:
    image = tiny.picture(40, 30)
    data = encoded(image, format)
    assert images.read_header(data) == images.Header(40, 30, format)
    assert np.array_equal(array(data), np.asarray(image))


@pytest.mark.parametrize(
    "format", ["JPEG", "WEBP", pytest.param("AVIF", marks=needs_avif)], ids=str.lower
)
def test_a_lossy_file_gives_nearly_its_own_pixels(format: str) -> None:
    image = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    data = encoded(image, format, quality=95)
    assert images.read_header(data) == images.Header(64, 48, format)
    assert abs(array(data) - np.asarray(image).astype(int)).mean() < 2


@pytest.mark.parametrize("format", images.supported_formats(), ids=str.lower)
def test_every_format_that_is_named_as_supported_can_be_read(format: str) -> None:
    data = encoded(tiny.picture(60, 50), format)
    assert images.decode(data).size == (60, 50)


def test_a_one_pixel_image_is_read() -> None:
    data = encoded(Image.new("RGB", (1, 1), (10, 20, 30)), "PNG")
    assert images.read_header(data) == images.Header(1, 1, "PNG")
    assert array(data).tolist() == [[[10, 20, 30]]]


NO_IMAGE = {
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "zip": zipped(),
    "text": b"quality",
    "pdf": b"%PDF-1.7\n1 0 obj",
    "icon": encoded(tiny.picture(32, 32), "ICO"),
    "jpeg2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "sound-in-riff": b"RIFF\x24\0\0\0WAVEfmt ",
    "video": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
    "one-byte": b"\xff",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.mark.parametrize("verb", [images.read_header, images.decode], ids=["header", "decode"])
@pytest.mark.parametrize("data", NO_IMAGE.values(), ids=NO_IMAGE.keys())
def test_bytes_of_no_known_format_are_unsupported(
    data: bytes, verb: Callable[[bytes], object]
) -> None:
    with pytest.raises(UnsupportedImage, match="send one of JPEG, PNG, WEBP"):
        verb(data)


@pytest.mark.parametrize("verb", [images.read_header, images.decode], ids=["header", "decode"])
def test_an_empty_file_is_unreadable(verb: Callable[[bytes], object]) -> None:
    with pytest.raises(UnreadableImage, match="empty"):
        verb(b"")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"], ids=str.lower)
def test_a_file_that_is_cut_off_is_unreadable(format: str) -> None:
    data = encoded(tiny.picture(200, 150), format)
    with pytest.raises(UnreadableImage, match="send the whole file again"):
        images.decode(data[: len(data) // 2])


@pytest.mark.parametrize("format", ["JPEG", "PNG"], ids=str.lower)
def test_a_header_that_is_cut_off_is_unreadable(format: str) -> None:
    with pytest.raises(UnreadableImage):
        images.read_header(encoded(tiny.picture(200, 150), format)[:20])


def test_the_header_of_a_cut_off_file_is_still_read() -> None:
    data = encoded(tiny.picture(200, 150), "JPEG")
    assert images.read_header(data[: len(data) // 2]) == images.Header(200, 150, "JPEG")


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)], ids=["none", "no-width", "no-height"])
def test_an_image_without_pixels_is_unreadable(size: tuple[int, int]) -> None:
    with pytest.raises(UnreadableImage):
        images.read_header(bomb(*size))


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    data = bomb(50_000, 50_000)
    assert len(data) < 200
    with pytest.raises(ImageTooLarge, match="50000 x 50000 = 2500 megapixels"):
        images.read_header(data)


def test_the_pixel_limit_is_inclusive() -> None:
    assert images.read_header(bomb(100, 100), max_pixels=10_000).width == 100
    with pytest.raises(ImageTooLarge):
        images.read_header(bomb(100, 101), max_pixels=10_000)


def test_too_many_bytes_are_refused_before_they_are_looked_at() -> None:
    with pytest.raises(ImageTooLarge, match="at most 1 MiB"):
        images.read_header(b"x" * (2**20 + 1), max_bytes=2**20)


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000), (51, 1), (1, 51)])
def test_an_extreme_aspect_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BadAspect, match=f"{size[0]} x {size[1]}.*50 : 1"):
        images.read_header(encoded(Image.new("L", size), "PNG"))


@pytest.mark.parametrize("size", [(50, 1), (1, 50), (5000, 100)])
def test_an_aspect_of_fifty_to_one_is_still_scored(size: tuple[int, int]) -> None:
    assert images.read_header(encoded(Image.new("L", size), "PNG")).width == size[0]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnsupportedImage, "unsupported_image"),
        (UnreadableImage, "unreadable_image"),
        (ImageTooLarge, "too_large"),
        (BadAspect, "bad_aspect"),
    ],
)
def test_every_error_about_an_image_has_its_stable_code(error: type[ImageError], code: str) -> None:
    assert error.code == code


def sources(folder: Path) -> Iterator[tuple[str, Any]]:
    image = tiny.picture(40, 30)
    data = encoded(image, "PNG")
    path = folder / "image.png"
    path.write_bytes(data)
    yield from {
        "bytes": data,
        "path": path,
        "name": str(path),
        "pillow": image,
        "array": np.asarray(image),
    }.items()


def test_read_takes_paths_bytes_images_and_arrays_alike(tmp_path: Path) -> None:
    wanted = np.asarray(tiny.picture(40, 30))
    for kind, source in sources(tmp_path):
        assert np.array_equal(np.asarray(images.read(source)), wanted), kind


def test_read_leaves_the_callers_image_as_it_was() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = Image.open(io.BytesIO(encoded(tiny.picture(40, 30), "PNG", exif=exif)))
    assert images.read(image).size == (30, 40)
    assert image.size == (40, 30)
    assert image.getexif()[ORIENTATION] == 6


def test_read_refuses_a_file_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(50_000, 50_000))
    with pytest.raises(ImageTooLarge):
        images.read(path)


def samples() -> dict[str, bytes]:
    """Small files of every format, with metadata for the mutations to hit."""
    image = tiny.picture(30, 20)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    tagged = {"exif": exif, "icc_profile": profile()}
    turned = image.rotate(180)
    files = {
        "jpeg": encoded(image, "JPEG", **tagged),
        "cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "png": encoded(image, "PNG", **tagged),
        "grey16": encoded(Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)), "PNG"),
        "palette": encoded(image.quantize(8), "PNG", transparency=b"\0\x80\xff"),
        "gif": encoded(image, "GIF", save_all=True, append_images=[turned]),
        "webp": encoded(image, "WEBP", **tagged),
        "webp-animation": encoded(image, "WEBP", save_all=True, append_images=[turned]),
        "bmp": encoded(image, "BMP"),
        "tiff": encoded(image, "TIFF", **tagged),
        "tiff-lzw": encoded(image, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": encoded(image, "TIFF", compression="jpeg"),
    }
    if features.check("avif"):
        files["avif"] = encoded(image, "AVIF", **tagged)
    return files


def mutated(data: bytes, draw: random.Random) -> bytes:
    """``data`` cut off, or with some bytes replaced or bits flipped, in the header or anywhere."""
    if draw.random() < 0.2:
        return data[: draw.randrange(len(data))]
    out = bytearray(data)
    reach = len(out) if draw.random() < 0.5 else min(len(out), 600)
    for _ in range(draw.choice([1, 2, 4, 16])):
        place = draw.randrange(reach)
        out[place] = draw.choice([draw.randrange(256), out[place] ^ (1 << draw.randrange(8))])
    return bytes(out)


def looked_at(data: bytes) -> tuple[images.Header, Image.Image]:
    """Header and pixels; the limit keeps sizes that a mutation made up from filling the memory."""
    return images.read_header(data, max_pixels=10**6), images.decode(data)


@pytest.mark.filterwarnings("ignore")  # about broken metadata, rightly
@pytest.mark.parametrize(("name", "data"), samples().items(), ids=samples().keys())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(name: str, data: bytes) -> None:
    draw = random.Random(name)
    refused = 0
    for _ in range(60):
        broken = mutated(data, draw)
        try:
            header, image = looked_at(broken)
        except ImageError:
            refused += 1
        else:
            assert image.mode == "RGB"
            assert image.size == (header.width, header.height)
    assert refused


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "magic",
    [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBP"],
    ids=["none", "jpeg", "png", "gif", "bmp", "tiff", "webp"],
)
def test_random_bytes_are_refused(magic: bytes) -> None:
    draw = random.Random(0)
    for length in range(40):
        data = magic + draw.randbytes(8 * length)
        with pytest.raises(ImageError):
            looked_at(data)
