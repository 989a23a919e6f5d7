"""Headers by our own readers: right on what Pillow reads, bounded on what strangers write."""

import random
import struct
import subprocess
import sys
import zlib
from typing import Any

import pytest
from PIL import Image, features

from model.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage
from model.preprocess import headers, images
from model.preprocess.headers.reader import MAX_LOOKS, Reader
from tests.model import tiny
from tests.model.preprocess.image_files import chunk, encoded
from tests.model.preprocess.test_images import mutated, samples

ORIENTATION = 0x0112
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"]
NEEDS_NO_PILLOW = """
import sys
import model.config, model.errors, model.scores
from model.preprocess import crops, headers, windows
for path in sys.argv[1:]:
    header = headers.read_header(open(path, "rb").read())
    print(header.format, header.width, header.height)
assert not [name for name in sys.modules if name.partition(".")[0] == "PIL"]
"""


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def exif_bytes(orientation: int) -> bytes:
    return b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation, 0, 0])


def written(format: str, mode: str, orientation: int | None) -> bytes | None:
    """None where the format holds no such mode."""
    image = tiny.picture(48, 32).convert("L").convert(mode)
    turned = orientation is not None and format not in {"GIF", "BMP"}
    try:
        return encoded(image, format, **({"exif": oriented(orientation or 0)} if turned else {}))
    except (OSError, ValueError):
        return None


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        (format, mode)
        for format in images.supported_formats()
        for mode in MODES
        if written(format, mode, None)
    ],
)
def test_a_header_is_what_decoding_gives_in_every_mode_and_orientation(
    format: str, mode: str
) -> None:
    for orientation in (None, *range(10)):
        data = written(format, mode, orientation)
        assert data
        header = headers.read_header(data)
        assert header.format == format
        assert images.decode(data).size == (header.width, header.height)


def test_headers_are_read_without_importing_pillow(tmp_path: Any) -> None:
    files = {format: tmp_path / format for format in images.supported_formats()}
    for format, path in files.items():
        path.write_bytes(encoded(tiny.picture(48, 32), format))
    command = [sys.executable, "-c", NEEDS_NO_PILLOW, *map(str, files.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{format} 48 32" for format in files]


@pytest.mark.parametrize(("name", "data"), samples().items(), ids=samples().keys())
def test_a_mutated_header_takes_bounded_looks_and_raises_nothing_but_image_errors(
    name: str, data: bytes
) -> None:
    draw = random.Random(name)
    refused = 0
    for _ in range(400):
        broken = mutated(data, draw)
        try:
            reader = Reader(broken)
            headers.READERS[headers.format_of(broken)](reader)
            assert 0 <= reader.looks_left < MAX_LOOKS
            headers.read_header(broken)
        except ImageError:
            refused += 1
    assert 0 < refused < 400  # some are broken, and the walk comes to its end in others


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"], ids=str.lower)
def test_looks_into_a_file_are_counted(format: str) -> None:
    data = encoded(tiny.picture(8, 8), format)
    with pytest.raises(UnreadableImage, match="too many parts"):
        headers.READERS[format](Reader(data, looks=1))


def test_a_jpeg_of_a_great_many_exif_segments_is_refused_after_a_bounded_walk() -> None:
    data = encoded(tiny.picture(8, 8), "JPEG")
    segment = b"\xff\xe1\0\x08Exif\0\0"
    crowded = data[:2] + segment * (3 * 2**20 // len(segment)) + data[2:]
    reader = Reader(crowded)
    with pytest.raises(UnreadableImage, match="too many parts"):
        headers.READERS["JPEG"](reader)
    assert reader.looks_left > MAX_LOOKS - 10_000


def test_bytes_between_a_jpegs_markers_are_walked_over_a_bounded_number_of_times() -> None:
    with pytest.raises(UnreadableImage, match="too many parts"):
        headers.read_header(b"\xff\xd8\xff" + bytes(2**20))


def test_a_small_webp_frame_counts_at_the_size_of_its_canvas() -> None:
    frame = encoded(tiny.picture(16, 16), "WEBP")[12:]
    side = struct.pack("<I", 9998)[:3]
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + side + side
    data = b"RIFF" + struct.pack("<I", 4 + len(canvas + frame)) + b"WEBP" + canvas + frame
    with pytest.raises(ImageTooLarge, match="9999 x 9999 = 100 megapixels"):
        headers.read_header(data)


def tiff(tags: dict[int, int]) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_a_tiff_counts_at_the_size_of_its_tiles() -> None:
    data = tiff({256: 64, 257: 64, 258: 8, 277: 1, 322: 45_000, 323: 45_000, 324: 8, 325: 8})
    with pytest.raises(ImageTooLarge, match="tiles have 2025 megapixels"):
        headers.read_header(data)


def test_an_image_of_few_megapixels_that_takes_much_memory_is_refused() -> None:
    data = encoded(tiny.picture(64, 64), "WEBP")
    with pytest.raises(ImageTooLarge, match="Decoding the image takes about"):
        headers.read_header(data, max_decode_bytes=2**20)


def test_a_progressive_jpeg_counts_the_coefficients_that_its_decoder_keeps() -> None:
    image = tiny.picture(640, 480)
    plain = encoded(image.convert("L"), "JPEG")
    full = encoded(image, "JPEG", progressive=True, subsampling=0)
    assert headers.look(full).decode_bytes - headers.look(plain).decode_bytes > 4 * 640 * 480


def test_a_jpeg_of_a_great_many_scans_is_estimated_as_one_of_few() -> None:
    data = encoded(tiny.picture(64, 48), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    crowded = data[:-2] + data[scan:-2] * 1800 + data[-2:]
    few, many = headers.read_header(data), headers.read_header(crowded)
    assert many.decode_bytes - few.decode_bytes == len(crowded) - len(data)


@pytest.mark.parametrize("late", [False, True], ids=["before", "behind"])
def test_png_exif_counts_before_and_behind_the_pixels(late: bool) -> None:
    data = encoded(tiny.picture(48, 32), "PNG")
    at = data.index(b"IEND") - 4 if late else data.index(b"IDAT") - 4
    data = data[:at] + chunk(b"eXIf", exif_bytes(6)[6:]) + data[at:]
    header = headers.read_header(data)
    assert (header.width, header.height) == (32, 48)
    assert images.decode(data).size == (32, 48)


def test_an_orientation_in_xmp_counts_where_exif_has_none() -> None:
    xmp = b'<x:xmpmeta tiff:Orientation="6"/>'
    for format in ("JPEG", "WEBP"):
        data = encoded(tiny.picture(48, 32), format, xmp=xmp)
        assert headers.read_header(data).width == images.decode(data).width == 32
        both = encoded(tiny.picture(48, 32), format, xmp=xmp, exif=oriented(1))
        assert headers.read_header(both).width == images.decode(both).width == 48


def test_a_gif_frame_that_reaches_over_the_screen_widens_it() -> None:
    data = bytearray(encoded(tiny.picture(48, 32), "GIF"))
    data[6:10] = struct.pack("<HH", 8, 8)
    header = headers.read_header(bytes(data))
    assert (header.width, header.height) == (48, 32) == images.decode(bytes(data)).size


def test_a_file_whose_content_has_another_size_than_its_header_is_refused() -> None:
    """Our reader takes the first frame's header of a JPEG, Pillow the last."""
    data = encoded(tiny.picture(48, 32), "JPEG")
    at = data.index(b"\xff\xc0")
    length = 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    other = bytearray(data[at : at + length])
    other[5:9] = struct.pack(">HH", 16, 24)
    lying = data[:at] + bytes(other) + data[at:]
    assert headers.read_header(lying).width == 24
    with pytest.raises(UnreadableImage, match="differ in size"):
        images.decode(lying)


@pytest.mark.parametrize("error", [struct.error, zlib.error, Image.DecompressionBombError])
def test_whatever_a_decoder_raises_is_that_images_error(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fails(self: Image.Image) -> None:
        raise error("odd")

    data = encoded(tiny.picture(48, 32), "PNG")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fails)
    with pytest.raises(UnreadableImage) as raised:
        images.decode(data)
    assert isinstance(raised.value.__cause__, error)


def test_avif_is_known_by_its_header_and_refused_where_pillow_lacks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    data = encoded(tiny.picture(48, 32), "AVIF")
    monkeypatch.setattr(features, "check", lambda feature: False)
    assert headers.read_header(data).format == "AVIF"
    with pytest.raises(UnsupportedImage):
        images.decode(data)


def test_odd_exif_of_a_pillow_image_does_not_make_it_unreadable() -> None:
    image = tiny.picture(48, 32)
    image.info["exif"] = b"Exif\0\0MM"
    assert images.read(image).size == (48, 32)
