"""Odd files: metadata, profiles and structures that decoders stumble over."""

import struct
from collections.abc import Iterator

from PIL import ImageCms, features

from benchmarks.drills.corpus import containers as made
from benchmarks.drills.corpus.containers import Entry
from benchmarks.drills.corpus.sample import Hostile, encoded, picture

_TURNED: tuple[int, Entry] = (0x0112, (3, [6]))


def odd_files() -> list[Hostile]:
    """All; none is large."""
    return [Hostile(name, data) for name, data in (*_exif(), *_profiles(), *_structures())]


def _exif() -> Iterator[tuple[str, bytes]]:
    jpeg = encoded(picture(64, 48))
    for name, entries in _entries():
        block = made.exif(entries)
        yield f"jpeg, EXIF {name}", made.with_segments(jpeg, made.segment(0xE1, block))
        yield f"webp, EXIF {name}", _webp_with(b"EXIF", block[6:], 8)
        yield f"png, EXIF {name}", _png_with_exif(block[6:])
    late = _png_with_exif(made.exif(dict([_TURNED]))[6:], late=True)
    yield "png, EXIF after the pixels", late
    for name, block in _broken_exif():
        yield (
            f"jpeg, EXIF {name}",
            made.with_segments(jpeg, made.segment(0xE1, b"Exif\0\0" + block)),
        )


def _entries() -> Iterator[tuple[str, dict[int, Entry]]]:
    """What can be parsed, and not be written again."""
    turned = dict([_TURNED])
    yield "turned", turned
    yield "resolution unit that is a float", turned | {0x0128: (11, [1.5])}
    yield "resolution unit that is text", turned | {0x0128: (2, b"inch\0")}
    yield "sizes that are doubles", turned | {0x0100: (12, [64.5]), 0x0101: (12, [48.5])}
    yield "rational over zero", turned | {0x011A: (5, [1, 0]), 0x011B: (5, [0, 0])}
    yield "date that is a number", turned | {0x0132: (4, [7])}
    yield "bytes of no text", turned | {0x010F: (2, b"\xff\xfe\0\0\xff")}
    yield "orientation that is text", {0x0112: (2, b"6\0")}
    yield "orientation of several", {0x0112: (3, [6, 8, 3])}
    yield "orientation out of range", {0x0112: (3, [65535])}
    yield "directory within itself", turned | {0x8769: (4, [8]), 0x8825: (4, [8])}
    yield "pointers past the end", turned | {0x8769: (4, [0x7FFFFFF0]), 0x8825: (4, [0xFFFFFFFF])}
    yield "pointers that are floats", turned | {0x8769: (11, [8.0]), 0x927C: (7, b"\0" * 40)}


def _broken_exif() -> Iterator[tuple[str, bytes]]:
    good = made.exif(dict([_TURNED]))[6:]
    yield "empty", b""
    yield "of one byte", b"I"
    yield "cut off in its directory", good[:14]
    yield "directory past the end", struct.pack("<2sHI", b"II", 42, 0xFFFFFF00)
    yield "65535 entries", struct.pack("<2sHIH", b"II", 42, 8, 65535) + good[10:]
    huge = struct.pack("<HHII", 0x010E, 2, 0xFFFFFFFF, 8)
    yield "text of 4 GiB", struct.pack("<2sHIH", b"II", 42, 8, 1) + huge + bytes(4)


def _profiles() -> Iterator[tuple[str, bytes]]:
    good = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profiles = {
        "empty": b"",
        "random": bytes(range(1, 251)) * 4,
        "cut off": good[: len(good) // 2],
        "of 4 GiB by its header": b"\xff\xff\xff\xf0" + good[4:],
        "with tags past its end": good[:128] + b"\xff" * 200 + good[328:],
        "of another colour space": good[:16] + b"Lab " + good[20:],
    }
    for name, profile in profiles.items():
        for mode in ("RGB", "CMYK", "L"):
            data = encoded(picture(64, 48, mode), "JPEG", icc_profile=profile)
            yield f"jpeg {mode}, profile {name}", data
        yield f"webp, profile {name}", _webp_with(b"ICCP", profile, 32)
        yield f"png, profile {name}", encoded(picture(64, 48), "PNG", icc_profile=profile)


def _structures() -> Iterator[tuple[str, bytes]]:
    noise = picture(64, 64).tobytes()[:400]
    for number, scheme in ((2, "ccitt"), (3, "fax3"), (4, "fax4"), (5, "lzw"), (7, "jpeg")):
        yield f"tiff of noise, {scheme}", made.stripped(64, 64, noise, compression=number)
    yield "tiff of noise, packbits", made.stripped(64, 64, noise, compression=32773)
    yield "tiff of no strip", made.stripped(64, 64, b"")
    yield "tiff of 64 samples", made.stripped(64, 64, noise, t277=(3, [64]))
    yield "tiff of rows over its height", made.stripped(64, 64, noise, t278=(4, [0xFFFFFFFF]))
    yield "tiff of an unknown scheme", made.stripped(64, 64, noise, compression=54321)
    yield "png of no pixels", made.png(0, 64)
    yield "png whose data ends early", made.png(512, 512)[:400]
    yield "gif outside its canvas", made.gif(16, 64)
    yield "bmp of a negative width", made.rle_bmp(-64, 64)
    yield "bmp upside down", made.rle_bmp(64, -64)
    for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", *_avif()):
        data = encoded(picture(64, 48), form)
        for part in (0.05, 0.5, 0.95):
            yield f"{form.lower()} cut off at {part:.0%}", data[: int(part * len(data))]


def _avif() -> tuple[str, ...]:
    return ("AVIF",) if features.check("avif") else ()


def _webp_with(kind: bytes, data: bytes, flag: int) -> bytes:
    """A WebP with one chunk of metadata: profiles stand before the pixels, EXIF behind."""
    extra = made.riff(kind, data)
    pixels = made.riff(b"VP8L", made.flat_vp8l(64, 48))
    body = extra + pixels if kind == b"ICCP" else pixels + extra
    return made.webp(made.webp_flags(flag, 64, 48) + body)


def _png_with_exif(block: bytes, *, late: bool = False) -> bytes:
    chunk = made.png_chunk(b"eXIf", block)
    if not late:
        return made.png(64, 48, before=chunk)
    plain = made.png(64, 48)
    return plain[:-12] + chunk + plain[-12:]
