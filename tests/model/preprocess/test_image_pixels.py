"""Orientation, depth, transparency, colours: what a file holds becomes upright 8-bit sRGB."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from model.preprocess import images
from tests.model import tiny
from tests.model.preprocess.image_files import array, chunk, encoded, png, profile

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")

ORIENTATION = 0x0112


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
        assert getattr(image, "n_frames", 1) >= 2
    assert images.read_header(data) == images.Header(20, 10, format)
    assert abs(array(data) - np.array(RED)).max() <= 2


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
