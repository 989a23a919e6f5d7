"""Small files that claim, or take, a lot of memory or time, of every format."""

import struct

from PIL import features

from benchmarks.drills.corpus import containers as made
from benchmarks.drills.corpus.sample import Hostile, encoded, picture

# The default limit is 50 megapixels; 7056 is a multiple of 16, as tiles must be.
_WITHIN = 7056
_OVER = 10000


def bombs() -> list[Hostile]:
    """All, those that the header alone gives away first."""
    return [*_over(), *_within(), *_slow()]


def _over() -> list[Hostile]:
    """Canvas, frame or tile over the limit: refused before anything is decoded."""
    side = _OVER
    found = {
        "png rgb": made.png(side, side),
        "png rgba": made.png(side, side, colour=6),
        "png 16-bit grey": made.png(side, side, depth=16, colour=0),
        "webp canvas": made.animated_webp(9999, 16),
        "webp lossless": made.webp(made.riff(b"VP8L", made.flat_vp8l(16383, 16383))),
        "tiff tile": made.tiled(64, 64, 45008),
        "tiff strip": made.stripped(side, side, made.deflated_zeros(side * side), compression=8),
        "gif canvas": made.gif(65535, 1),
        "bmp rle": made.rle_bmp(side, side),
        "jpeg": made.flat_jpeg(side, side),
        "jpeg of the largest size": made.flat_jpeg(65500, 65500)[:600],
    }
    if features.check("avif"):
        found["avif"] = _lying_avif(20000)
    return [Hostile(f"{name}, over", data, refused=True) for name, data in found.items()]


def _within() -> list[Hostile]:
    """As large as may be: decoded, or ended on the way, at a bounded cost."""
    side = _WITHIN
    found = {
        "png rgb": made.png(side, side),
        "png rgba": made.png(side, side, colour=6),
        "png 16-bit grey": made.png(side, side, depth=16, colour=0),
        "png 16-bit rgba": made.png(side, side, depth=16, colour=6),
        "png interlaced": made.png(side, side, interlaced=True),
        "webp canvas": made.animated_webp(side, 16),
        "webp lossless": made.webp(made.riff(b"VP8L", made.flat_vp8l(side, side))),
        "tiff tile": made.tiled(64, 64, side),
        "tiff strip": made.stripped(side, side, made.deflated_zeros(side * side), compression=8),
        "gif canvas": made.gif(side, 1),
        "gif frame": made.gif(side, side),
        "bmp rle": made.rle_bmp(side, side, b"\xff\0" * (side * side // 255) + b"\0\1"),
        "jpeg cmyk": made.flat_jpeg(side, side, 4),
        "jpeg grey": made.flat_jpeg(side, side),
    }
    return [Hostile(f"{name}, within", data) for name, data in found.items()]


def _slow() -> list[Hostile]:
    """Seconds of CPU for a few bytes, in the header or in the decoder."""
    jpeg = encoded(picture(64, 64))
    small = made.segment(0xE1, b"Exif\0\0II")
    deep = made.png_chunk(b"zTXt", b"Comment\0\0" + made.deflated_zeros(64 << 20))
    profile = made.png_chunk(b"iCCP", b"icc\0\0" + made.deflated_zeros(256 << 20))
    found = {
        "jpeg of 3 MiB of small EXIF segments": made.with_segments(
            jpeg, small * ((3 << 20) // len(small))
        ),
        "jpeg of 8 MiB of empty comments": made.with_segments(jpeg, made.segment(0xFE) * (8 << 18)),
        "jpeg of 1800 empty scans": made.progressive_jpeg(3200, 3200, 1800),
        "jpeg of 5000 empty scans": made.progressive_jpeg(_WITHIN, _WITHIN, 5000),
        "jpeg of fill bytes": jpeg[:2] + b"\xff" * (4 << 20) + jpeg[2:],
        "png with a text of 64 MiB": made.png(64, 64, before=deep),
        "png with a profile of 256 MiB": made.png(64, 64, before=profile),
        "png of a million empty chunks": made.png(
            64, 64, before=made.png_chunk(b"teSt", b"") * 1_000_000
        ),
        "tiff whose directory follows itself": _looping_tiff(),
        "gif of a million empty extensions": _gif_of_extensions(1_000_000),
    }
    return [Hostile(name, data) for name, data in found.items()]


def _looping_tiff() -> bytes:
    data = made.stripped(64, 64, bytes(64 * 64))
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    end = at + 2 + 12 * count
    return data[:end] + struct.pack("<I", at) + data[end + 4 :]


def _gif_of_extensions(count: int) -> bytes:
    plain = made.gif(64, 64)
    return plain[:19] + b"!\xfe\0" * count + plain[19:]


def _lying_avif(side: int) -> bytes:
    """Its box says another size than its bitstream."""
    data = bytearray(encoded(picture(64, 64), "AVIF", speed=10))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", side, side)
    return bytes(data)
