"""Reader of TIFF headers."""

import math

from model.errors import UnreadableImage
from model.preprocess.headers.exif import ORIENTATION, TRANSPOSED, directory
from model.preprocess.headers.frame import Frame
from model.preprocess.headers.reader import BROKEN, Reader

_WIDTH, _HEIGHT, _BITS, _SAMPLES = 256, 257, 258, 277
_STRIP_ROWS, _TILE_WIDTH, _TILE_HEIGHT = 278, 322, 323
_MOST_SAMPLES = 6


def tiff(reader: Reader) -> Frame:
    """TIFF: the first directory; tiles count at their own size."""
    tags = directory(reader, 0)
    width = tags.value(_WIDTH, 0)
    height = tags.value(_HEIGHT, 0)
    samples = max(1, tags.value(_SAMPLES, 1))
    bits = max(tags.values(_BITS, most=_MOST_SAMPLES), default=1)
    if samples > _MOST_SAMPLES or bits > 64:
        raise UnreadableImage(BROKEN)
    across = tags.value(_TILE_WIDTH, width)
    down = tags.value(_TILE_HEIGHT, min(height, tags.value(_STRIP_ROWS, height)))
    largest = max(width * height, across * down)
    turned = tags.value(ORIENTATION, 1)
    # Pixels and their copy, and what libtiff takes for a tile.
    stored = math.ceil(samples * max(bits, 8) / 8) * across * down
    pixel_bytes = 8 + stored / max(1, largest)
    return Frame(width, height, largest, pixel_bytes, turned if turned in TRANSPOSED else 1)
