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
from PIL import Image, ImageCms, features

from model import images
from model.errors import BadAspect, ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage
from tests.model import tiny

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")

ORIENTATION = 0x0112


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def array(data: bytes) -> np.ndarray:
    image = images.decode(data)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG written by hand, for what Pillow does not write; ``rows`` without filter bytes."""
    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[i * stride : (i + 1) * stride] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *extra,
            chunk(b"IDAT", zlib.compress(filtered)),
            chunk(b"IEND", b""),
        ]
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


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


def upright() -> np.ndarray:
    """Three unlike 16-pixel stripes across and two down, so that no turn or flip maps it to itself
    and codecs can hardly blur it.
    """
    colours = np.array(
        [[(255, 255, 255), (0, 0, 0), (255, 0, 0)], [(0, 0, 255), (0, 128, 0), (128, 128, 128)]]
    )
    return colours.repeat(16, 0).repeat(16, 1).astype(np.uint8)


# How a camera stores the upright image: what a viewer has to undo (EXIF 2.32, tag 274).
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        pytest.param("AVIF", {"quality": 100, "subsampling": "4:4:4"}, marks=needs_avif),
    ],
    ids=["png", "jpeg", "webp", "tiff", "avif"],
)
def test_an_exif_orientation_is_turned_upright_in_pixels_and_header(
    format: str, options: dict[str, Any], orientation: int
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright())))
    data = encoded(stored, format, exif=exif, **options)
    header = images.read_header(data)
    pixels = array(data)
    assert pixels.shape == upright().shape
    assert abs(pixels - upright()).max() < 12
    assert (header.width, header.height) == (48, 32)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04six\0",
    ],
    ids=["garbage", "offset-beyond-the-end", "orientation-99", "orientation-as-text"],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_broken_exif_does_not_make_the_image_unreadable(exif: bytes) -> None:
    data = encoded(tiny.picture(40, 30), "JPEG", exif=exif)
    assert images.read_header(data) == images.Header(40, 30, "JPEG")
    assert images.decode(data).size == (40, 30)


def test_a_16_bit_grey_image_is_scaled_to_8_bit() -> None:
    values = [0, 1, 128, 129, 256, 257, 25_700, 32_768, 65_406, 65_407, 65_534, 65_535]
    image = Image.fromarray(np.array([values], np.uint16))
    for data in (encoded(image, "PNG"), encoded(image, "TIFF")):
        wanted = [round(v / 257) for v in values]
        assert array(data).tolist() == [[[v, v, v] for v in wanted]]


def test_a_big_endian_16_bit_tiff_is_scaled_to_8_bit() -> None:
    pixels = np.array([[0, 257, 65_535]], ">u2")
    tags = [
        (256, 4, 3),
        (257, 4, 1),
        (258, 3, 16 << 16),
        (259, 3, 1 << 16),
        (262, 3, 1 << 16),
        (273, 4, 8),
        (277, 3, 1 << 16),
        (278, 4, 1),
        (279, 4, 6),
    ]
    directory = b"".join(struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in tags)
    data = b"MM\0*" + struct.pack(">I", 14) + pixels.tobytes()
    data += struct.pack(">H", len(tags)) + directory + struct.pack(">I", 0)
    assert array(data)[0, :, 0].tolist() == [0, 1, 255]


def test_a_32_bit_integer_tiff_is_read_as_16_bit_values() -> None:
    image = Image.fromarray(np.array([[0, 257, 65_535, 70_000]], np.int32))
    assert array(encoded(image, "TIFF"))[0, :, 0].tolist() == [0, 1, 255, 255]


@pytest.mark.parametrize("colour", [2, 6], ids=["rgb", "rgba"])
def test_a_16_bit_colour_png_is_scaled_to_8_bit(colour: int) -> None:
    values = np.array([[(0, 257, 65_535), (32_896, 1_000, 64_000)]], ">u2")
    alpha = np.full((1, 2, 1), 65_535, ">u2")
    samples = values if colour == 2 else np.concatenate([values, alpha], -1).astype(">u2")
    pixels = array(png(2, 1, 16, colour, samples.tobytes()))
    assert abs(pixels - values / 257).max() <= 1


def test_transparency_shows_white() -> None:
    rgba = np.array([[(10, 20, 30, 255), (10, 20, 30, 0), (0, 100, 200, 128)]], np.uint8)
    for format in ("PNG", "TIFF"):
        pixels = array(encoded(Image.fromarray(rgba), format))
        assert pixels[0, 0].tolist() == [10, 20, 30]
        assert pixels[0, 1].tolist() == [255, 255, 255]
        assert abs(pixels[0, 2] - np.array([127, 177, 227])).max() <= 1


def test_grey_with_transparency_shows_white() -> None:
    grey = Image.fromarray(np.array([[(10, 255), (10, 0), (0, 128)]], np.uint8), "LA")
    pixels = array(encoded(grey, "PNG"))
    assert pixels[0, :, 0] == pytest.approx([10, 255, 127], abs=1)
    assert (pixels == pixels[..., :1]).all()


def test_16_bit_grey_with_transparency_shows_white() -> None:
    samples = np.array([[(2570, 65_535), (2570, 0), (0, 32_896)]], ">u2")
    pixels = array(png(3, 1, 16, 4, samples.tobytes()))
    assert pixels[0, :, 0] == pytest.approx([10, 255, 127], abs=1)


def palette_image() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    return image


@pytest.mark.parametrize(
    ("transparency", "wanted"),
    [
        (None, [(255, 0, 0), (0, 255, 0), (0, 0, 255)]),
        (1, [(255, 0, 0), (255, 255, 255), (0, 0, 255)]),
        (b"\x00\x80\xff", [(255, 255, 255), (127, 255, 127), (0, 0, 255)]),
    ],
    ids=["opaque", "one-colour", "alpha-per-colour"],
)
def test_a_palette_is_resolved_and_its_transparency_shows_white(
    transparency: int | bytes | None, wanted: list[tuple[int, int, int]]
) -> None:
    options = {} if transparency is None else {"transparency": transparency}
    pixels = array(encoded(palette_image(), "PNG", **options))
    assert abs(pixels[0] - np.array(wanted)).max() <= 1


def test_a_transparent_colour_of_an_rgb_png_shows_white() -> None:
    rgb = bytes([1, 2, 3, 9, 9, 9])
    pixels = array(png(2, 1, 8, 2, rgb, chunk(b"tRNS", struct.pack(">HHH", 9, 9, 9))))
    assert pixels[0].tolist() == [[1, 2, 3], [255, 255, 255]]


def test_a_black_and_white_image_is_read() -> None:
    image = Image.fromarray(np.array([[True, False]]))
    for format in ("PNG", "TIFF", "BMP"):
        assert array(encoded(image, format)).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("top", [1.0, 255.0], ids=["unit-range", "8-bit-range"])
def test_a_float_tiff_is_read_whatever_its_range(top: float) -> None:
    values = np.array([[0.0, 0.5, 1.0, np.nan, -0.1]], np.float32) * np.float32(top)
    pixels = array(encoded(Image.fromarray(values), "TIFF"))[0, :, 0]
    assert pixels.tolist() == [0, 128, 255, 0, 0]


def test_a_cmyk_jpeg_is_read_in_its_colours() -> None:
    inks = {"white": (0, 0, 0, 0), "red": (0, 255, 255, 0), "cyan": (255, 0, 0, 0)}
    wanted = {"white": (255, 255, 255), "red": (255, 0, 0), "cyan": (0, 255, 255)}
    for name, ink in inks.items():
        data = encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100)
        assert abs(array(data) - np.array(wanted[name])).max() < 6, name


def test_a_lab_tiff_is_read_in_its_colours() -> None:
    lightness, neutral = b"\xff\0", b"\x80\x80"
    bands = [Image.frombytes("L", (2, 1), band) for band in (lightness, neutral, neutral)]
    white_and_black = Image.merge("LAB", bands)
    pixels = array(encoded(white_and_black, "TIFF"))
    assert abs(pixels - np.array([[[255] * 3, [0] * 3]])).max() <= 2


RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"], ids=str.lower)
def test_of_several_frames_or_pages_the_first_is_scored(format: str) -> None:
    first, second = (Image.new("RGB", (20, 10), colour) for colour in (RED, BLUE))
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    data = encoded(first, format, save_all=True, append_images=[second, second], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames >= 2
    assert images.read_header(data) == images.Header(20, 10, format)
    assert abs(array(data) - np.array(RED)).max() <= 2


def profile(name: str = "sRGB") -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def swapped_primaries() -> bytes:
    """An RGB profile whose red is sRGB's green, and the reverse."""
    swap = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}
    data = bytearray(profile())
    (tags,) = struct.unpack_from(">I", data, 128)
    for entry in range(132, 132 + 12 * tags, 12):
        data[entry : entry + 4] = swap.get(bytes(data[entry : entry + 4]), data[entry : entry + 4])
    return bytes(data)


def test_an_srgb_profile_changes_nothing() -> None:
    image = tiny.picture(30, 20)
    tagged = array(encoded(image, "PNG", icc_profile=profile()))
    assert abs(tagged - np.asarray(image).astype(int)).max() <= 1


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"], ids=str.lower)
def test_colours_of_another_profile_are_moved_to_srgb(format: str) -> None:
    image = Image.new("RGB", (16, 16), RED)
    data = encoded(image, format, icc_profile=swapped_primaries(), quality=100)
    assert abs(array(data) - np.array(GREEN)).max() < 12


def test_a_profile_and_transparency_are_both_obeyed() -> None:
    image = Image.new("RGBA", (2, 1), (*RED, 255))
    image.putpixel((1, 0), (*RED, 0))
    pixels = array(encoded(image, "PNG", icc_profile=swapped_primaries()))
    assert abs(pixels[0] - np.array([GREEN, (255, 255, 255)])).max() <= 2


@pytest.mark.parametrize(
    "icc",
    [b"no profile", profile()[:200], b"\0" * 128, profile("LAB")],
    ids=["text", "cut-off", "zeros", "of-another-colour-space"],
)
def test_a_profile_that_can_not_be_used_is_ignored(icc: bytes) -> None:
    image = tiny.picture(30, 20)
    pixels = array(encoded(image, "PNG", icc_profile=icc))
    assert np.array_equal(pixels, np.asarray(image))


def test_a_grey_image_with_an_rgb_profile_keeps_its_greys() -> None:
    image = Image.linear_gradient("L")
    pixels = array(encoded(image, "PNG", icc_profile=profile()))
    assert abs(pixels - np.asarray(image).astype(int)[..., None]).max() <= 1


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
    for kind, source in sources(tmp_path):
        assert np.array_equal(np.asarray(images.read(source)), tiny.picture(40, 30)), kind


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
