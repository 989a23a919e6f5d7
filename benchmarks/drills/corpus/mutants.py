"""Good small files, damaged by chance: the same files for the same seed."""

import random
from collections.abc import Callable, Iterator
from functools import cache

from PIL import features

from benchmarks.drills.corpus import containers as made
from benchmarks.drills.corpus.sample import encoded, picture

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutants(count: int, seed: int = 0) -> Iterator[bytes]:
    """So many damaged files, of all formats in turn."""
    chance = random.Random(seed)
    files = _files()
    for number in range(count):
        data = bytearray(files[number % len(files)])
        for _ in range(chance.choice((1, 1, 2, 3, 8))):
            chance.choice(_DAMAGES)(data, chance)
        yield bytes(data)


@cache
def _files() -> tuple[bytes, ...]:
    grey, colour = picture(40, 32, "L"), picture(40, 32)
    exif = made.exif({0x0112: (3, [6]), 0x011A: (5, [72, 1]), 0x8769: (4, [26])})
    files = [
        encoded(colour, "JPEG", quality=60),
        encoded(colour, "JPEG", progressive=True, quality=60),
        made.with_segments(encoded(grey, "JPEG"), made.segment(0xE1, exif)),
        encoded(colour, "PNG"),
        encoded(colour.quantize(16), "PNG"),
        encoded(colour, "WEBP"),
        encoded(colour.convert("RGBA"), "WEBP", lossless=True),
        encoded(colour, "GIF"),
        encoded(grey, "BMP"),
        encoded(colour, "TIFF", compression="tiff_lzw"),
        encoded(grey, "TIFF", compression="tiff_adobe_deflate"),
        encoded(colour.convert("1"), "TIFF", compression="group4"),
    ]
    if features.check("avif"):
        files.append(encoded(colour, "AVIF", speed=10, quality=40))
    return tuple(files)


def _flip(data: bytearray, chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _flip_early(data: bytearray, chance: random.Random) -> None:
    if data:
        data[chance.randrange(min(64, len(data)))] ^= 1 << chance.randrange(8)


def _write_extreme(data: bytearray, chance: random.Random) -> None:
    value = chance.choice(_EXTREMES)
    raw = value.to_bytes(4, chance.choice(("little", "big")))[-chance.choice((1, 2, 4)) :]
    at = chance.randrange(max(1, min(len(data), 256)))
    data[at : at + len(raw)] = raw


def _cut_out(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    del data[at : at + chance.randrange(1, 33)]


def _repeat(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = data[at : at + chance.randrange(1, 65)] * chance.randrange(1, 5)


def _truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _splice(data: bytearray, chance: random.Random) -> None:
    other = chance.choice(_files())
    at = chance.randrange(len(data) + 1)
    data[at:] = other[min(at, len(other)) :]


_DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip, _flip, _flip_early, _write_extreme, _write_extreme),
    *(_cut_out, _repeat, _truncate, _splice),
)
