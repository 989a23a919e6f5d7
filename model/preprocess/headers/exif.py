"""TIFF directories, which EXIF data are too, and the orientation that they declare."""

import re
from dataclasses import dataclass

from model.errors import UnreadableImage
from model.preprocess.headers.reader import BROKEN, Reader

ORIENTATION = 0x0112
TRANSPOSED = frozenset({5, 6, 7, 8})  # orientations that swap width and height

_LAYOUTS = {1: "B", 3: "H", 4: "I"}
_MOST_ENTRIES = 1000
_XMP_BYTES = 2**16
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(="|>)([0-9])')


@dataclass(frozen=True, slots=True)
class Directory:
    """The tags of one directory: where and how the first entry of each is written."""

    reader: Reader
    base: int
    order: str
    entries: dict[int, tuple[int, int, int]]

    def value(self, tag: int, default: int) -> int:
        """A tag's first whole number."""
        return max(self.values(tag, most=1), default=default)

    def values(self, tag: int, most: int) -> tuple[int, ...]:
        """Up to ``most`` of a tag's whole numbers; none where it is of another type."""
        kind, count, at = self.entries.get(tag, (0, 0, 0))
        if kind not in _LAYOUTS or not count:
            return ()
        width = {1: 1, 3: 2, 4: 4}[kind]
        if width * count > 4:
            at = self.base + self.reader.number(self.order + "I", at)
        return self.reader.numbers(f"{self.order}{min(count, most)}{_LAYOUTS[kind]}", at)


def directory(reader: Reader, base: int) -> Directory:
    """The first directory of the TIFF structure at ``base``."""
    order = {b"II": "<", b"MM": ">"}.get(reader.bytes(base, 2))
    if order is None:
        raise UnreadableImage(BROKEN)
    start = base + reader.number(order + "I", base + 4)
    count = reader.number(order + "H", start)
    entries: dict[int, tuple[int, int, int]] = {}
    for at in range(start + 2, start + 2 + 12 * min(count, _MOST_ENTRIES), 12):
        tag, kind, number = reader.numbers(order + "HHI", at)
        entries.setdefault(tag, (kind, number, at + 8))
    return Directory(reader, base, order, entries)


def orientation(reader: Reader, at: int) -> int | None:
    """The orientation in the EXIF data at ``at``, 1 to 8; 1 where it is odd, None where they have
    none or are broken.
    """
    try:
        while reader.bytes(at, 6) == b"Exif\0\0":
            at += 6
        tags = directory(reader, at)
        if ORIENTATION not in tags.entries:
            return None
        kind, count, _ = tags.entries[ORIENTATION]
        value = tags.value(ORIENTATION, 1) if kind in {3, 4} and count == 1 else 1
    except UnreadableImage:
        return None
    return value if 1 <= value <= 8 else 1


def xmp_orientation(reader: Reader, at: int, length: int) -> int:
    """The orientation that an XMP packet declares near its start; counts where EXIF has none."""
    packet = reader.bytes(at, max(0, min(length, _XMP_BYTES, reader.size - at)))
    found = _XMP_ORIENTATION.search(packet)
    value = int(found[2]) if found else 1
    return value if 1 <= value <= 8 else 1
