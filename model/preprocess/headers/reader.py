"""The bytes of a file that a stranger wrote: every look is checked and counted."""

import struct

from model.errors import UnreadableImage

# Of ordinary files, PNGs with many small chunks need most: a few thousand.
MAX_LOOKS = 20_000
BROKEN = "The image is broken or cut off; send the whole file again."


class Reader:
    """Bounded looks into ``data``: beyond its end, and over ``MAX_LOOKS``, is UnreadableImage."""

    def __init__(self, data: bytes, looks: int = MAX_LOOKS) -> None:
        self.data = data
        self.size = len(data)
        self.looks_left = looks

    def bytes(self, at: int, count: int) -> bytes:
        """``count`` bytes, a number that our code chose, never the file."""
        self.looks_left -= 1
        if self.looks_left < 0:
            raise UnreadableImage("The image's header has too many parts; save it as PNG or JPEG.")
        if at < 0 or at + count > self.size:
            raise UnreadableImage(BROKEN)
        return self.data[at : at + count]

    def numbers(self, layout: str, at: int) -> tuple[int, ...]:
        """Unsigned numbers, by a ``struct`` layout."""
        return struct.unpack(layout, self.bytes(at, struct.calcsize(layout)))

    def number(self, layout: str, at: int) -> int:
        """One unsigned number."""
        return self.numbers(layout, at)[0]
