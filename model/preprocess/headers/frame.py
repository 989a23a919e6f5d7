"""What a format's reader finds in a file."""

from dataclasses import dataclass

from model.preprocess.headers.exif import TRANSPOSED


@dataclass(frozen=True, slots=True)
class Frame:
    """The picture as it is stored.

    ``largest``: pixels of the largest buffer that the file makes a decoder take: canvas, frame or
    tile. ``pixel_bytes``: at the peak of decoding, per pixel of it.
    """

    width: int
    height: int
    largest: int
    pixel_bytes: float
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) as a viewer shows it."""
        turned = self.orientation in TRANSPOSED
        return (self.height, self.width) if turned else (self.width, self.height)
